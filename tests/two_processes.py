"""A training in two processes."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import torch

REPOSITORY = Path(__file__).resolve().parent.parent


def train_in_two(folder: Path, script: str, owner: str, flags) -> list[list[torch.Tensor]]:
    """Runs a train script in two processes and returns the trained parameters of each.

    Args:
        folder: For files of this function.
        script: The module of the script.
        owner: The module that calls `fit`.
        flags: Of the script.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--rdzv-backend=c10d"]
    command += ["--rdzv-endpoint=localhost:0", __file__, folder, script, owner, *flags]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    subprocess.run([str(part) for part in command], check=True, env=environment, capture_output=True)
    return [torch.load(folder / rank) for rank in ("0", "1")]


def keep_parameters(folder: str, script: str, owner: str, flags: list[str]) -> None:
    """Runs the script in this process and saves what it trained under the rank of the process."""
    recipe = importlib.import_module(owner)
    fit = recipe.fit

    def fit_and_keep(args, *others, parameters, **more):
        fit(args, *others, parameters=parameters, **more)
        torch.save(parameters, Path(folder, os.environ["RANK"]))

    recipe.fit = fit_and_keep
    importlib.import_module(script).main(flags)


if __name__ == "__main__":
    keep_parameters(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
