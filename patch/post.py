"""Output projections of the joint attention, zero at the start: the patched model is still the base.

Each maps what x read and what y read, (n, N, C) or `None` for a side that did not read, to the two updates; "aligned"
also takes the partners' values, (n, N, V) each. They are made of whole linear layers, so that offloading, which moves
weights layer by layer, finds every one.
"""

from typing import ClassVar

import torch
from torch import nn

POSTS = ("fuse", "conv", "conv_fuse", "aligned")


class Post(nn.Module):
    """ALIGNED: whether it also takes, for x and for y, the partner's value at the reader's own position."""

    ALIGNED: ClassVar = False


class ConvPost(Post):
    """One C -> C projection for both sides ("conv" of UniCon)."""

    def __init__(self, channels: int):
        super().__init__()
        self.proj = _zero_linear(channels, channels)

    def forward(self, x, y):
        return tuple(None if side is None else self.proj(side) for side in (x, y))


class FoldedConvPost(Post):
    """`ConvPost` with another projection for each side, as `patch.fuse` makes it."""

    def __init__(self, x: nn.Module, y: nn.Module):
        super().__init__()
        self.x, self.y = x, y

    def forward(self, x, y):
        return None if x is None else self.x(x), None if y is None else self.y(y)


class ConvFusePost(Post):
    """2C -> 2C on the channels of [x; y], in four blocks ("conv_fuse" of UniCon). `yx` is y's part in x's update."""

    READS: ClassVar = {"xx": "x", "yx": "y", "xy": "x", "yy": "y"}

    def __init__(self, channels: int):
        super().__init__()
        self.xx, self.yx, self.xy, self.yy = (_zero_linear(channels, channels) for _ in range(4))

    def forward(self, x, y):
        if y is None:
            return self.xx(x), None
        if x is None:
            return None, self.yy(y)
        return self.xx(x) + self.yx(y), self.xy(x) + self.yy(y)


class FusePost(Post):
    """2C -> rank -> 2C on the channels of [x; y]."""

    READS: ClassVar = {"down_x": "x", "down_y": "y"}

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


class AlignedPost(Post):
    """C + V -> rank -> C for each side by itself, on what it read and on the partner's value at the reader's position.

    For pairs that are aligned by pixel: which position of the partner belongs to a position need not be learned.
    """

    ALIGNED = True
    READS: ClassVar = {"down_x": "x", "down_y": "y"}

    def __init__(self, channels: int, value_channels: int, rank: int):
        super().__init__()
        self.down_x, self.down_y = (nn.Linear(channels, rank, bias=False) for _ in range(2))
        self.same_x, self.same_y = (nn.Linear(value_channels, rank, bias=False) for _ in range(2))
        self.up_x, self.up_y = (_zero_linear(rank, channels) for _ in range(2))

    def forward(self, x, y, value_x, value_y):
        """value_x: (n, N, V), of what x reads, `None` as x is."""
        return (
            None if x is None else self.up_x(self.down_x(x) + self.same_x(value_x)),
            None if y is None else self.up_y(self.down_y(y) + self.same_y(value_y)),
        )


def build_post(kind: str, attn: nn.Module, rank: int) -> Post:
    """The output projection of an attention. kind: one of `POSTS`; rank is that of "fuse" and "aligned"."""
    check_post(kind)
    channels = attn.out_dim
    if kind == "aligned":
        return AlignedPost(channels, attn.inner_kv_dim, rank)
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
    """The input in the dtype of the weights, as PEFT does for its layers (adapters in float32, base in half)."""
    if x is None or any(is_cast(layer) for layer in post.children()):
        return x
    return x.to(next(post.parameters()).dtype)


def is_cast(layer: nn.Module) -> bool:
    """Whether `enable_layerwise_casting` gives a layer the dtype of its input for each call."""
    registry = getattr(layer, "_diffusers_hook", None)
    return registry is not None and "layerwise_casting" in registry.hooks
