"""Residuals on the skips and the middle of a video UNet, such as ControlNets make; the UNet itself is not changed."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial, reduce
from typing import NamedTuple

import torch
from diffusers import UNetSpatioTemporalConditionModel


class Residuals(NamedTuple):
    """What is added to a UNet.

    Attributes:
        down: (B F, C, h, w) for each of its skips, first to last.
        mid: (B F, C, h, w) for the output of its middle block.
    """

    down: tuple[torch.Tensor, ...]
    mid: torch.Tensor

    def scaled(self, factor: float) -> "Residuals":
        """All multiplied by a factor."""
        return Residuals(tuple(factor * one for one in self.down), factor * self.mid)

    def plus(self, other: "Residuals") -> "Residuals":
        """The sum with those of another source."""
        return Residuals(tuple(a + b for a, b in zip(self.down, other.down, strict=True)), self.mid + other.mid)


def add_residuals(
    unet: UNetSpatioTemporalConditionModel,
    sources: Sequence[Callable[..., Residuals]],
    *inputs: torch.Tensor,
    return_dict: bool = True,
):
    """Run the UNet with the residuals that several sources, such as ControlNets, make of its inputs, summed."""
    residuals = [source(*inputs) for source in sources]
    with added_residuals(unet, reduce(Residuals.plus, residuals)):
        return unet(*inputs, return_dict=return_dict)


@contextmanager
def added_residuals(unet: UNetSpatioTemporalConditionModel, residuals: Residuals) -> Iterator[None]:
    """Within it the second half of the UNet gets its skips, and the output of its middle block, with residuals added.

    The UNet's own forward takes none. Its blocks do: they are changed on the way into the blocks of the second half.
    """
    down, hooks = residuals.down, []
    for index, block in enumerate(unet.up_blocks):
        count = len(block.resnets)
        add = partial(_add, down[-count:], residuals.mid if index == 0 else None)
        hooks.append(block.register_forward_pre_hook(add, with_kwargs=True))
        down = down[:-count]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _add(down, mid, block, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    skips = kwargs["res_hidden_states_tuple"]
    changed = {"res_hidden_states_tuple": tuple(_plus(*pair) for pair in zip(skips, down, strict=True))}
    if mid is not None:
        changed["hidden_states"] = _plus(kwargs["hidden_states"], mid)
    return args, kwargs | changed


def _plus(hidden: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
    return hidden + residual.to(hidden.dtype)
