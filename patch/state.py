"""What a call needs to know: who reads whom, and which rows an adapter acts on.

A row belongs to a sample of the batch. Frames and spatial positions are spread over batch-major, so `repeats`
consecutive rows of a module belong to one sample. Everything here is frozen: a new state replaces the old one when
pairs or masks are set, and a forward or a checkpointed backward in between sees one and the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from operator import index as as_integer

import torch

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


@dataclass(frozen=True, eq=False)
class Pair:
    """Two samples of the batch that are generated together.

    x, y: their places in the batch. name: the joint adapter, `None` the unnamed one. weight: factor on what x receives
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

    def take(self, x: torch.Tensor) -> torch.Tensor:
        """(total * repeats, ...) -> (len * repeats, ...)"""
        repeats = rows_per_sample(x, self.total)
        if self.span is not None:
            return x.narrow(0, self.span[0] * repeats, self.span[1] * repeats)
        return x.index_select(0, spread(self.index, repeats, x.device))

    def add_(self, out: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
        """Adds `delta`, (len * repeats, ...), to these rows of `out`, in place: `out` has to be a fresh tensor."""
        repeats = rows_per_sample(out, self.total)
        delta = scale_rows(delta, self.weight, repeats).to(out.dtype)
        if len(self) == self.total:
            return out.add_(delta)
        return out.index_add_(0, spread(self.index, repeats, out.device), delta)


@dataclass(frozen=True, eq=False)
class Fusion:
    """Links that share an output projection: (start, length) of what x read and what y read, `None` if it did not."""

    name: str | None
    x: tuple[int, int] | None
    y: tuple[int, int] | None


@dataclass(frozen=True, eq=False)
class Links:
    """The joint attention of a call: link i lets sample `readers[i]` attend to sample `sources[i]`.

    adapters: LoRA name -> (links whose q and out it changes, links whose k and v it changes).
    """

    samples: int
    readers: torch.Tensor
    sources: torch.Tensor
    adapters: dict[str, tuple[Rows, Rows]]
    fusions: tuple[Fusion, ...]
    weight: torch.Tensor | None


@dataclass(frozen=True, eq=False)
class CallState:
    """What the forward reads. rows: self adapter -> its samples. managed: adapters that act only where a mask is."""

    samples: int | None = None
    rows: dict[str, Rows] = field(default_factory=dict)
    managed: frozenset[str] = frozenset()
    links: Links | None = None
    error: str | None = None


@dataclass(frozen=True)
class Mask:
    """Weight per sample of an adapter; `kv`: weight of the rows whose own k and v it changes in the joint attention."""

    rows: tuple[float, ...]
    kv: tuple[float, ...] | None = None


@dataclass(frozen=True)
class JointSpec:
    """A joint adapter. kv: "reader" (its k and v LoRAs follow the reading row) or "source" (the row they come from)."""

    name: str | None
    post: str
    post_rank: int
    kv: str = "reader"


@dataclass(frozen=True, eq=False)
class Settings:
    """What the user asked for; `samples` is the batch size that the pairs were set for."""

    pairs: tuple[Pair, ...] = ()
    samples: int | None = None
    masks: dict[str, Mask] = field(default_factory=dict)
    enabled: bool = True


class Context:
    """The one object that a patched model and its patched layers share."""

    def __init__(self, active_before: tuple[str, ...] = ()):
        self.temporal = False
        self.settings = Settings()
        self.state = CallState()
        self.joints: dict[str | None, JointSpec] = {}
        self.managed: frozenset[str] = frozenset()
        self.masked: frozenset[str] = frozenset()
        self.frozen: frozenset[str] = frozenset()
        self.active_before = active_before
        self.hacked: tuple[dict | None, tuple[str, ...]] | None = None

    def update(self, device: torch.device, **changes) -> None:
        """Replaces settings and state together."""
        self.settings = replace(self.settings, **changes)
        self.state = build_state(self.settings, self.joints, self.managed, device)


def rows_per_sample(x: torch.Tensor, samples: int) -> int:
    repeats, rest = divmod(x.shape[0], samples)
    if rest:
        raise ValueError(
            f"The pairs and masks are for {samples} samples, but a layer got {x.shape[0]} rows: give one entry per "
            "sample of the batch, guidance copies included."
        )
    return repeats


def spread(index: torch.Tensor, repeats: int, device: torch.device) -> torch.Tensor:
    """Indices of samples -> indices of their rows."""
    index = index.to(device)
    if repeats == 1:
        return index
    return (index[:, None] * repeats + torch.arange(repeats, device=device)).flatten()


def scale_rows(x: torch.Tensor, weight: torch.Tensor | None, repeats: int) -> torch.Tensor:
    """Multiplies each sample's rows of `x` by its weight."""
    if weight is None:
        return x
    weight = weight.to(x)[:, None].expand(-1, repeats)
    return x * weight.reshape(-1, *[1] * (x.dim() - 1))


def build_state(settings: Settings, joints: dict, managed: frozenset, device: torch.device) -> CallState:
    lengths = {f"the mask of '{name}'": len(mask.rows) for name, mask in settings.masks.items()}
    if settings.pairs:
        lengths = {"the pairs": settings.samples, **lengths}
    if len(set(lengths.values())) > 1:
        sizes = ", ".join(f"{label}: {size}" for label, size in lengths.items())
        return CallState(managed=managed, error=f"Pairs and masks are for different batch sizes ({sizes}): set them all for the same batch.")  # fmt: skip
    samples = next(iter(lengths.values()), None)
    return CallState(
        samples=samples,
        rows=_self_rows(settings, samples, device),
        managed=managed,
        links=_links(settings, joints, device) if settings.pairs and settings.enabled else None,
    )


def _self_rows(settings: Settings, samples: int | None, device) -> dict[str, Rows]:
    weights = {}
    for pair in settings.pairs:
        mask = weights.setdefault(lora_name(pair.name, "y"), [0.0] * samples)
        mask[pair.y] = 1.0
    weights |= {name: mask.rows for name, mask in settings.masks.items() if not is_joint_lora(name)}
    return {name: rows_from_weights(mask, device) for name, mask in weights.items()}


def rows_from_weights(weights: Sequence[float], device) -> Rows:
    """The entries with a weight other than zero."""
    places = [i for i, weight in enumerate(weights) if weight]
    kept = [float(weights[i]) for i in places]
    consecutive = places == list(range(places[0], places[0] + len(places))) if places else True
    return Rows(
        index=torch.tensor(places, dtype=torch.long, device=device),
        total=len(weights),
        span=(places[0] if places else 0, len(places)) if consecutive else None,
        weight=None if all(weight == 1.0 for weight in kept) else torch.tensor(kept, device=device),
    )


def _links(settings: Settings, joints: dict[str | None, JointSpec], device) -> Links:
    """Lays the links of each name out as [x of both, x alone, y of both, y alone], so that every part is a slice."""
    readers, sources, names, roles, weights, fusions = [], [], [], [], [], []
    for name in dict.fromkeys(pair.name for pair in settings.pairs):
        pairs = {d: [p for p in settings.pairs if p.name == name and p.direction == d] for d in DIRECTIONS}
        both, x_only, y_only = (pairs[d] for d in DIRECTIONS)
        x_links, y_links, start = both + x_only, both + y_only, len(readers)
        y_start = start + len(x_links)
        readers += [p.x for p in x_links] + [p.y for p in y_links]
        sources += [p.y for p in x_links] + [p.x for p in y_links]
        weights += [p.weights[0] for p in x_links] + [p.weights[1] for p in y_links]
        roles += ["xy"] * len(x_links) + ["yx"] * len(y_links)
        names += [name] * (len(x_links) + len(y_links))
        fusions += [
            Fusion(name, (start, len(both)), (y_start, len(both))) if both else None,
            Fusion(name, (start + len(both), len(x_only)), None) if x_only else None,
            Fusion(name, None, (y_start + len(both), len(y_only))) if y_only else None,
        ]
    table = list(zip(names, roles, readers, sources, strict=True))
    return Links(
        samples=settings.samples,
        readers=torch.tensor(readers, device=device),
        sources=torch.tensor(sources, device=device),
        adapters=_joint_rows(settings, joints, table, device),
        fusions=tuple(fusion for fusion in fusions if fusion is not None),
        weight=_stack(weights, device),
    )


def _joint_rows(settings: Settings, joints, table, device) -> dict[str, tuple[Rows, Rows]]:
    rows = {}
    for name in dict.fromkeys(name for name, *_ in table):
        for role, other in (("xy", "yx"), ("yx", "xy")):
            owner = role if joints[name].kv == "reader" else other
            rows[lora_name(name, role)] = (
                rows_from_weights([float(n == name and r == role) for n, r, *_ in table], device),
                rows_from_weights([float(n == name and r == owner) for n, r, *_ in table], device),
            )
    for adapter, mask in settings.masks.items():
        name = joint_name(adapter)
        if is_joint_lora(adapter) and any(n == name for n, *_ in table):
            rows[adapter] = _masked_links(mask, name, joints[name].kv, table, device)
    return rows


def _masked_links(mask: Mask, name: str | None, kv: str, table, device) -> tuple[Rows, Rows]:
    query = [mask.rows[reader] if n == name else 0.0 for n, _, reader, _ in table]
    if mask.kv is None and kv == "reader":
        return rows_from_weights(query, device), rows_from_weights(query, device)
    owned = mask.rows if mask.kv is None else mask.kv
    memory = [owned[source] if n == name else 0.0 for n, _, _, source in table]
    return rows_from_weights(query, device), rows_from_weights(memory, device)


def _stack(weights: Sequence, device) -> torch.Tensor | None:
    if any(isinstance(weight, torch.Tensor) for weight in weights):
        parts = [torch.as_tensor(weight, dtype=torch.float32, device=device).reshape(()) for weight in weights]
        return torch.stack(parts)
    if all(weight == 1 for weight in weights):
        return None
    return torch.tensor([float(weight) for weight in weights], device=device)


def noise_weight(t_x: torch.Tensor, t_y: torch.Tensor) -> torch.Tensor:
    """Weight of what x receives, by the noise levels of both sides: sigmoid(3 (t_y / (t_x + t_y) - 1/2)) (JointDiT).

    t_x, t_y: noise levels of any shape and unit, 0 for a given side; 1/2 where both are given. Swap them for y.
    """
    total = t_x + t_y
    share = torch.where(total > 0, t_y / total.clamp(min=torch.finfo(torch.float32).tiny), 0.5)
    return torch.sigmoid(3 * (share - 0.5))
