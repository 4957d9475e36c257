"""Turns the user's settings into what the forward reads: index tensors and slices, made once per setting."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from patch.state import (
    DIRECTIONS,
    CallState,
    FrameGroups,
    Fusion,
    JointSpec,
    Links,
    Mask,
    Reads,
    Rows,
    Settings,
    is_joint_lora,
    joint_name,
    lora_name,
)


@dataclass(frozen=True)
class Link:
    """Sample `reader` attends to sample `source`; role "xy" where the reader is an x."""

    role: str
    reader: int
    source: int
    weight: float | torch.Tensor


@dataclass(frozen=True)
class Group:
    """Links of one adapter and direction, of x and of y. slot: where keys and values of given sources are kept."""

    name: str | None
    x: list[Link]
    y: list[Link]
    slot: str | None


def build_state(settings: Settings, joints: dict, managed: frozenset, device: torch.device) -> CallState:
    """What the next forward reads, on its device.

    Args:
        joints: `JointSpec` of each joint adapter by name.
        managed: LoRAs that act only where a mask is.

    Returns:
        With an `error`, which the forward raises, where pairs, masks and frames are for different batch sizes.
    """
    lengths = {f"the mask of '{name}'": len(mask.rows) for name, mask in settings.masks.items()}
    if settings.pairs:
        lengths = {"the pairs": settings.samples, **lengths}
    if settings.frames:
        lengths = {"the frames": settings.frame_samples, **lengths}
    if len(set(lengths.values())) > 1:
        sizes = ", ".join(f"{what}: {size}" for what, size in lengths.items())
        error = f"Pairs, masks and frames are for different batch sizes ({sizes}): set them all for the same batch."
        return CallState(managed=managed, error=error)
    samples = next(iter(lengths.values()), None)
    kept = samples if samples is None else kept_samples(settings, samples)
    joint = settings.pairs and (settings.enabled or settings.recording)  # what is recorded may be read later
    return CallState(
        samples=None if kept is None else len(kept),
        rows=self_rows(settings, samples, kept, device),
        managed=managed,
        links=build_links(settings, joints, kept, device) if joint else None,
        frames=build_frames(settings, kept, device) if settings.frames else None,
    )


def kept_samples(settings: Settings, samples: int) -> list[int]:
    """The samples of the next call, in their order: all, those that are given, or the others."""
    if settings.recording:
        return list(settings.given)
    return [sample for sample in range(samples) if sample not in settings.given]


def build_frames(settings: Settings, kept: list[int], device: torch.device) -> FrameGroups | None:
    """The groups of the next call; a group is either given or not, as `set_frames` and `record` see to."""
    place = {sample: i for i, sample in enumerate(kept)}
    groups = [[place[sample] for sample in group] for group in settings.frames if place.keys() >= {*group}]
    if not groups:
        return None
    grouped = [sample for group in groups for sample in group]
    others = [i for i in range(len(kept)) if i not in grouped]
    behind = grouped + others
    order = [behind.index(i) for i in range(len(kept))]
    return FrameGroups(
        groups=tuple(rows_at(group, len(kept), device) for group in groups),
        others=rows_at(others, len(kept), device) if others else None,
        order=None if order == sorted(order) else torch.tensor(order, device=device),
        merge=settings.merge,
    )


def self_rows(settings: Settings, samples: int | None, kept: list[int] | None, device) -> dict[str, Rows]:
    """`y_lora` of each name on its y samples, and the masks of self adapters."""
    weights = {lora_name(pair.name, "y"): [0.0] * samples for pair in settings.pairs}
    for pair in settings.pairs:
        weights[lora_name(pair.name, "y")][pair.y] = 1.0
    weights |= {name: mask.rows for name, mask in settings.masks.items() if not is_joint_lora(name)}
    return {name: select_rows([mask[sample] for sample in kept], device) for name, mask in weights.items()}


def select_rows(weights: Sequence[float], device: torch.device) -> Rows:
    """The entries with a weight other than zero."""
    places = [i for i, weight in enumerate(weights) if weight]
    kept = [float(weights[i]) for i in places]
    weight = None if all(weight == 1.0 for weight in kept) else torch.tensor(kept, device=device)
    return rows_at(places, len(weights), device, weight)


def rows_at(places: list[int], total: int, device: torch.device, weight: torch.Tensor | None = None) -> Rows:
    first = places[0] if places else 0
    consecutive = places == list(range(first, first + len(places)))
    return Rows(
        index=torch.tensor(places, dtype=torch.long, device=device),
        total=total,
        span=(first, len(places)) if consecutive else None,
        weight=weight,
    )


def build_links(settings: Settings, joints: dict[str | None, JointSpec], kept: list[int], device) -> Links:
    """The joint attention of the next call, whose samples are `kept`."""

    def reads(group: Group, links: list[Link]) -> Reads | None:
        return build_reads(group, links, settings, joints[group.name].kv, kept, device) if links else None

    fusions = tuple(Fusion(g.name, reads(g, g.x), reads(g, g.y)) for g in lay_out(settings))
    return Links(fusions, settings.recording)


def lay_out(settings: Settings) -> Iterator[Group]:
    """The groups of the next call: only those with given sources while these are recorded."""
    for name in dict.fromkeys(pair.name for pair in settings.pairs):
        for direction in DIRECTIONS:
            pairs = [p for p in settings.pairs if p.name == name and p.direction == direction]
            x = [Link("xy", p.x, p.y, p.weights[0]) for p in pairs if p.x_reads]
            y = [Link("yx", p.y, p.x, p.weights[1]) for p in pairs if p.y_reads]
            for given in (False, True):
                sides = [[link for link in links if (link.source in settings.given) == given] for links in (x, y)]
                if any(sides) and (given or not settings.recording):
                    yield Group(name, *sides, slot=f"{name}_{direction}" if given else None)


def build_reads(group: Group, links: list[Link], settings: Settings, kv: str, kept: list[int], device) -> Reads:
    """The reads of one role of a group, as places among the samples `kept` of the next call.

    Args:
        links: Those of x or those of y, at least one.
        kv: As of `JointSpec`.
    """
    place = {sample: i for i, sample in enumerate(kept)}
    adapters = joint_rows(group.name, links, settings.masks, kv, device)
    readers = sources = None
    if not settings.recording:
        weight = stack_weights(links, device)
        readers = rows_at([place[link.reader] for link in links], len(kept), device, weight)
    if settings.recording or group.slot is None:
        sources = rows_at([place[link.source] for link in links], len(kept), device)
    query = {adapter: rows for adapter, (rows, _) in adapters.items() if len(rows)}
    own = lora_name(group.name, links[0].role)
    return Reads(
        readers=readers,
        sources=sources,
        query=query,
        memory={adapter: rows for adapter, (_, rows) in adapters.items() if len(rows)},
        slot=group.slot,
        plain=list(query) == [own] and query[own].whole,
    )


def joint_rows(name: str | None, links: list[Link], masks: dict[str, Mask], kv: str, device) -> dict:
    """For each joint LoRA the links whose q and out it changes, and those whose k and v."""
    weights = {}
    for role, other in (("xy", "yx"), ("yx", "xy")):
        owner = role if kv == "reader" else other
        weights[lora_name(name, role)] = [[float(link.role == r) for link in links] for r in (role, owner)]
    for adapter, mask in masks.items():
        if is_joint_lora(adapter) and joint_name(adapter) == name:
            weights[adapter] = masked_links(mask, kv, links)
    return {adapter: [select_rows(each, device) for each in both] for adapter, both in weights.items()}


def masked_links(mask: Mask, kv: str, links: list[Link]) -> tuple[list[float], list[float]]:
    query = [mask.rows[link.reader] for link in links]
    if mask.kv is None and kv == "reader":
        return query, query
    owned = mask.rows if mask.kv is None else mask.kv
    return query, [owned[link.source] for link in links]


def reweigh(links: Links, settings: Settings, device: torch.device) -> Links:
    """The same links with the weights of other pairs."""
    fusions = []
    for fusion, group in zip(links.fusions, lay_out(settings), strict=True):
        x, y = ((fusion.x, group.x), (fusion.y, group.y))
        fusions.append(replace(fusion, x=reweigh_reads(*x, device), y=reweigh_reads(*y, device)))
    return replace(links, fusions=tuple(fusions))


def reweigh_reads(reads: Reads | None, links: list[Link], device: torch.device) -> Reads | None:
    if reads is None or reads.readers is None:
        return reads
    return replace(reads, readers=replace(reads.readers, weight=stack_weights(links, device)))


def stack_weights(links: list[Link], device: torch.device) -> torch.Tensor | None:
    """(L,), or `None` where all are the number 1. Tensors stay on their device's stream: nothing is read back."""
    weights = [link.weight for link in links]
    if any(isinstance(weight, torch.Tensor) for weight in weights):
        return torch.stack([torch.as_tensor(w, dtype=torch.float32, device=device).reshape(()) for w in weights])
    if all(weight == 1 for weight in weights):
        return None
    return torch.tensor([float(weight) for weight in weights], device=device)
