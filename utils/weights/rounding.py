"""Types of saved LoRAs, and what rounding to them changes."""

import warnings
from collections.abc import Sequence

import torch

LARGE_ERROR = 0.1  # mean relative change above which there is a warning
SAVE_DTYPES = ("float32", "float16", "bfloat16", "float8_e4m3fn")


def add_save_dtype_argument(group) -> None:
    kept = "type of the saved weights; float8_e4m3fn is half as large as float16, and rounds those below 0.001 to 0"
    group.add_argument("--save_dtype", choices=SAVE_DTYPES, default="float16", help=kept)


def save_dtype(args, parameters: Sequence[torch.Tensor]) -> torch.dtype:
    """The type of --save_dtype, with a warning where it changes the parameters much."""
    dtype = getattr(torch, args.save_dtype)
    if (error := rounding_error(parameters, dtype)) > LARGE_ERROR:
        warnings.warn(
            f"--save_dtype {args.save_dtype} changed the weights by {error:.0%}, as many are too small or too large "
            "for it: resume the training from its last checkpoint with --save_dtype float16.",
            stacklevel=3,
        )
    return dtype


def rounding_error(parameters: Sequence[torch.Tensor], dtype: torch.dtype) -> float:
    """Change that rounding makes, as a share of a parameter's norm; mean over the parameters that are not 0."""
    exact = [p.detach().float() for p in parameters if p.any()]
    shares = [float((p.to(dtype).float() - p).norm() / p.norm()) for p in exact]
    return sum(shares) / max(len(shares), 1)
