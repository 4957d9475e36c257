"""The flags of the flow backends, as commands have them."""

import argparse
from pathlib import Path

from utils.processes import process_state


def add_backend_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that choose a backend and its weights."""
    parser.add_argument("--backend", choices=["dis", "unimatch", "raft"], default="dis", help="estimator of the flow")
    parser.add_argument(
        "--checkpoint", help="weights of unimatch or raft (default: none for dis, those of torchvision for raft)"
    )


def backend_options(backend: str, checkpoint: str | None = None, preset: str | None = None) -> dict:
    """What `flow_estimator` takes for the backend.

    Raises:
        ValueError: A flag does not belong to the backend, or is missing.
        FileNotFoundError: There is no such checkpoint.
    """
    foreign, value = ("checkpoint", checkpoint) if backend == "dis" else ("preset", preset)
    if value:
        raise ValueError(f"--{foreign} {value} does not belong to --backend {backend}: remove it or change --backend.")
    if backend == "dis":
        return {"preset": preset or "medium"}
    if backend == "unimatch" and not checkpoint:
        raise ValueError("--backend unimatch needs a --checkpoint.")
    if checkpoint and not Path(checkpoint).is_file():
        raise FileNotFoundError(f"There is no checkpoint {checkpoint}.")
    return {"checkpoint": checkpoint, "device": process_state().device}
