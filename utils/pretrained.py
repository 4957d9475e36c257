"""Pretrained models by the name of a folder or of a repository on the hub, and where they run."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch
from huggingface_hub.errors import HFValidationError

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@contextlib.contextmanager
def loading(name: str | Path) -> Iterator[None]:
    """Within it a model is loaded from the folder or hub name.

    Raises:
        FileNotFoundError: There is none; in one sentence in place of the libraries' many.
    """
    missing = f"{name} is neither a model folder nor one on the hub that can be reached."
    if not Path(name).is_dir() and str(name).count("/") != 1:
        raise FileNotFoundError(missing)
    try:
        yield
    except (OSError, HFValidationError) as error:
        raise FileNotFoundError(missing) from error


def check_device(device: str) -> None:
    """Raise a ValueError unless tensors can be made on the device of `--device`."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {device} is not available here: take cpu, say.") from error
