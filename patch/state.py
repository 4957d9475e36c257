"""The state of a call: which samples attend to which, and which rows an adapter acts on.

A row belongs to a sample of the batch. Frames and spatial positions are spread over batch-major, so `repeats`
consecutive rows of a module belong to one sample. Everything here is frozen: a new state replaces the old one when
pairs or masks are set, and a forward or a checkpointed backward in between sees one and the same.
"""

from dataclasses import dataclass, field
from functools import cached_property
from math import isfinite
from numbers import Real
from operator import index as as_integer

import torch
from torch import nn

DIRECTIONS = ("both", "x_reads_y", "y_reads_x")
ROLES = ("xy", "yx", "y")


def lora_name(name: str | None, role: str) -> str:
    """PEFT's name of the LoRA with `role` (xy, yx or y) of the joint adapter `name`; `None` is the unnamed one."""
    return f"{name}_{role}_lora" if name else f"{role}_lora"


def is_joint_lora(adapter: str) -> bool:
    """Whether the LoRA acts in the joint attention; every other one acts in the model's own layers."""
    return f"_{adapter}".endswith(("_xy_lora", "_yx_lora"))


def joint_name(adapter: str) -> str | None:
    """The joint adapter that a LoRA with the role joint belongs to."""
    return adapter[: -len("_xy_lora")] or None


def is_weight(value) -> bool:
    return isinstance(value, Real) and isfinite(value)


@dataclass(frozen=True, eq=False)
class Pair:
    """Two samples of the batch that are generated together.

    x, y: their indices in the batch. name: the joint adapter, `None` the unnamed one. weight: factor on what x receives
    from y, a number or a tensor with one element; several pairs of one x are summed. weight_y: factor on what y
    receives, by default `weight`. direction: "both", "x_reads_y" or "y_reads_x"; the side that does not read gets
    no update and enters a fused output projection as zero (`weight_y=0` keeps its part instead).
    """

    x: int
    y: int
    name: str | None = None
    weight: float | torch.Tensor = 1.0
    direction: str = "both"
    weight_y: float | torch.Tensor | None = None

    def __post_init__(self):
        if min(as_integer(self.x), as_integer(self.y)) < 0 or self.x == self.y:
            raise ValueError(f"A pair needs two different samples counted from 0, not x={self.x}, y={self.y}.")
        if self.direction not in DIRECTIONS:
            raise ValueError(f"direction='{self.direction}' is unknown: choose one of {', '.join(DIRECTIONS)}.")
        for weight in self.weights:
            if isinstance(weight, torch.Tensor) and weight.numel() != 1:
                raise ValueError(
                    f"A pair has one weight, not a tensor of shape {tuple(weight.shape)}: give each pair its own."
                )
            if not isinstance(weight, torch.Tensor) and not is_weight(weight):
                raise ValueError(f"A pair's weight is a finite number or a tensor with one element, not {weight!r}.")

    @property
    def x_reads(self) -> bool:
        return self.direction != "y_reads_x"

    @property
    def y_reads(self) -> bool:
        return self.direction != "x_reads_y"

    @property
    def weights(self) -> tuple:
        return self.weight, self.weight if self.weight_y is None else self.weight_y


@dataclass(frozen=True, eq=False)
class Rows:
    """Some of `total` entries, with an optional weight for each. span: (start, length) where they are consecutive."""

    index: torch.Tensor
    total: int
    span: tuple[int, int] | None
    weight: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.index)

    @property
    def whole(self) -> bool:
        """All entries in their order, with weight 1."""
        return self.span == (0, self.total) and self.weight is None

    def take(self, x: torch.Tensor) -> torch.Tensor:
        """(total * repeats, ...) -> (len * repeats, ...), a view where the entries are consecutive."""
        repeats = rows_per_sample(x, self.total)
        if self.span is not None:
            return x.narrow(0, self.span[0] * repeats, self.span[1] * repeats)
        return x.unflatten(0, (self.total, repeats)).index_select(0, self.index).flatten(0, 1)

    def add_(self, out: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
        """Adds `delta`, (len * repeats, ...), to these rows of `out`, in place: `out` has to be a fresh tensor."""
        repeats = rows_per_sample(out, self.total)
        delta = scale_rows(delta, self.weight, repeats).to(out.dtype)
        if self.span is not None:
            self.take(out).add_(delta)
            return out
        parts = out.unflatten(0, (self.total, repeats))
        parts.index_add_(0, self.index, delta.unflatten(0, (len(self), repeats)))
        return out


@dataclass(frozen=True, eq=False)
class Reads:
    """Samples of one adapter that attend to others: the k-th reader to the k-th source.

    readers: with the weight of what each receives; `None` while keys and values of given sources are recorded.
    sources: `None` where their keys and values were recorded before, under `slot`.
    query, memory: joint LoRA -> the reads whose q and out, and those whose k and v it changes.
    plain: whether q and out have the LoRA of their role on all rows and no other.
    """

    readers: Rows | None
    sources: Rows | None
    query: dict[str, Rows]
    memory: dict[str, Rows]
    slot: str | None = None
    plain: bool = True


@dataclass(frozen=True, eq=False)
class Fusion:
    """What shares an output projection: what x samples read, and what y samples read, `None` where they do not."""

    name: str | None
    x: Reads | None
    y: Reads | None


@dataclass(frozen=True, eq=False)
class Links:
    """The joint attention of a call. recording: it only keeps the keys and values of given sources."""

    fusions: tuple[Fusion, ...]
    recording: bool = False


@dataclass(frozen=True, eq=False)
class FrameGroups:
    """Samples that are frames of videos: in self-attention each reads all of its group.

    groups: the samples of each. others: the samples of no group, `None` where there are none. order: the place of each
    sample behind one another in groups and others, `None` where that is their order. merge: share of the tokens of a
    group's frames but the middle one that are merged into those of the middle one.
    """

    groups: tuple[Rows, ...]
    others: Rows | None
    order: torch.Tensor | None
    merge: float


@dataclass(frozen=True, eq=False)
class CallState:
    """What the forward reads. rows: self adapter -> its samples. managed: adapters that act only where a mask is."""

    samples: int | None = None
    rows: dict[str, Rows] = field(default_factory=dict)
    managed: frozenset[str] = frozenset()
    links: Links | None = None
    frames: FrameGroups | None = None
    error: str | None = None

    @property
    def idle(self) -> bool:
        """Neither pairs nor masks nor frames are set."""
        return self.samples is None and self.error is None

    def acts_on_rows(self, adapter: str) -> bool:
        """Whether a LoRA acts on some rows of the batch only."""
        return is_joint_lora(adapter) or adapter in self.rows or adapter in self.managed


@dataclass(frozen=True)
class Mask:
    """Weight per sample of an adapter; `kv`: weight of the rows whose own k and v it changes in the joint attention."""

    rows: tuple[float, ...]
    kv: tuple[float, ...] | None = None


@dataclass(frozen=True, eq=False)
class LoraPlaces:
    """The places of LoRAs. attentions: with one on q, k or v. blocks: with one in a feed-forward layer.

    configs: of every LoRA by name. children: each layer with the dictionary and the key that its parent has it under.
    stray: paths of layers in the patch's own output projections.
    """

    configs: dict[str, object] = field(default_factory=dict)
    children: tuple[tuple[dict, str, nn.Module], ...] = ()
    stray: tuple[str, ...] = ()
    attentions: tuple[nn.Module, ...] = ()
    blocks: tuple[nn.Module, ...] = ()

    @property
    def layers(self) -> list[nn.Module]:
        return [layer for _, _, layer in self.children]

    @cached_property
    def adapters(self) -> frozenset[str]:
        """Names of the LoRAs that layers have; a configuration may be left behind."""
        return frozenset(name for layer in self.layers for name in layer.r)

    def stand(self, configs: dict) -> bool:
        """Whether LoRAs and layers are these very ones: a LoRA that was deleted and added has another configuration."""
        same = list(self.configs) == list(configs) and all(self.configs[name] is configs[name] for name in configs)
        return same and all(siblings.get(key) is layer for siblings, key, layer in self.children)


@dataclass(frozen=True)
class JointSpec:
    """A joint adapter. temporal: also in the attention over time.

    kv: "reader" (its k and v LoRAs follow the row that reads) or "source" (the row that they come from).
    """

    name: str | None
    post: str
    post_rank: int
    temporal: bool = False
    kv: str = "reader"


@dataclass(frozen=True, eq=False)
class Settings:
    """What the user asked for; `samples` is the batch size that the pairs were set for.

    given: samples whose keys and values are recorded once; a call has either them alone (`recording`) or the others.
    frames: samples of each group that attend to one another; `frame_samples` is the batch size that they were set for.
    """

    pairs: tuple[Pair, ...] = ()
    samples: int | None = None
    masks: dict[str, Mask] = field(default_factory=dict)
    enabled: bool = True
    given: tuple[int, ...] = ()
    recording: bool = False
    frames: tuple[tuple[int, ...], ...] = ()
    frame_samples: int | None = None
    merge: float = 0.0


def rows_per_sample(x: torch.Tensor, samples: int) -> int:
    """How many rows of a layer's input (rows, ...) each sample of the batch has, such as its frames.

    Raises:
        ValueError: The rows do not divide by the number of samples.
    """
    repeats = x.shape[0] // samples
    if repeats * samples != x.shape[0]:
        raise ValueError(
            f"The pairs and masks are for {samples} samples, but a layer got {x.shape[0]} rows: give one entry per "
            "sample of the batch, guidance copies included."
        )
    return repeats


def scale_rows(x: torch.Tensor, weight: torch.Tensor | None, repeats: int) -> torch.Tensor:
    """Multiplies each sample's rows of `x` by its weight."""
    if weight is None:
        return x
    weight = weight.to(x)[:, None].expand(-1, repeats)
    return x * weight.reshape(-1, *[1] * (x.dim() - 1))
