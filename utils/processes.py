"""The processes of one run, as Accelerate counts them."""

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env


def on_cpu() -> bool:
    """Whether this run computes on the CPU: asked for by `ACCELERATE_USE_CPU`, or nothing else is there."""
    return parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()


def process_state() -> PartialState:
    """Rank, count and device of this process, before and after an `Accelerator` exists.

    The first caller decides for the process: a bare `PartialState()` takes CPU processes for strangers to one another.
    """
    return PartialState(cpu=on_cpu())
