"""Output projections of the joint attention, zero at the start: the patched model is still the base.

Each maps what x read and what y read, (n, N, C) or `None` for a side that did not read, to the two updates. They are
made of whole linear layers, so that offloading, which moves weights layer by layer, finds every one.
"""

import torch
from torch import nn

POSTS = ("fuse", "conv", "conv_fuse")


class ConvPost(nn.Module):
    """One C -> C projection for both sides ("conv" of UniCon)."""

    def __init__(self, channels: int):
        super().__init__()
        self.proj = _zero_linear(channels, channels)

    def forward(self, x, y):
        return tuple(None if side is None else self.proj(side) for side in (x, y))


class ConvFusePost(nn.Module):
    """2C -> 2C on the channels of [x; y], in four blocks ("conv_fuse" of UniCon). `yx` is y's part in x's update."""

    def __init__(self, channels: int):
        super().__init__()
        self.xx, self.yx, self.xy, self.yy = (_zero_linear(channels, channels) for _ in range(4))

    def forward(self, x, y):
        if y is None:
            return self.xx(x), None
        if x is None:
            return None, self.yy(y)
        return self.xx(x) + self.yx(y), self.xy(x) + self.yy(y)


class FusePost(nn.Module):
    """2C -> rank -> 2C on the channels of [x; y]."""

    def __init__(self, channels: int, rank: int):
        super().__init__()
        self.down_x, self.down_y = (nn.Linear(channels, rank, bias=False) for _ in range(2))
        self.up_x, self.up_y = (_zero_linear(rank, channels) for _ in range(2))

    def forward(self, x, y):
        if y is None:
            return self.up_x(self.down_x(x)), None
        if x is None:
            return None, self.up_y(self.down_y(y))
        shared = self.down_x(x) + self.down_y(y)
        return self.up_x(shared), self.up_y(shared)


def build_post(kind: str, channels: int, rank: int) -> nn.Module:
    """kind: "fuse", "conv" or "conv_fuse"; rank is that of "fuse"."""
    check_post(kind)
    if kind == "conv":
        return ConvPost(channels)
    if kind == "conv_fuse":
        return ConvFusePost(channels)
    return FusePost(channels, rank)


def check_post(kind: str) -> None:
    if kind not in POSTS:
        raise ValueError(f"post='{kind}' is unknown: choose one of {', '.join(POSTS)}.")


def post_key(name: str | None) -> str:
    """Key of an adapter's output projection in the attention's `joint_post`."""
    return f"{name}_post" if name else "post"


def _zero_linear(in_features: int, out_features: int) -> nn.Linear:
    linear = nn.Linear(in_features, out_features, bias=False)
    nn.init.zeros_(linear.weight)
    return linear


def cast_input(post: nn.Module, x: torch.Tensor | None) -> torch.Tensor | None:
    """PEFT's rule for its own layers: the input follows the dtype of the weights (adapters in float32, base in half)."""
    return None if x is None else x.to(next(post.parameters()).dtype)
