"""From what the user asked for to what the forward reads: index tensors and slices, made once per setting."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from patch.state import (
    DIRECTIONS,
    CallState,
    Fusion,
    JointSpec,
    Links,
    Mask,
    Pair,
    Rows,
    Settings,
    is_joint_lora,
    joint_name,
    lora_name,
)


@dataclass(frozen=True)
class Link:
    """Sample `reader` attends to sample `source` with the adapter `name`; role "xy" where the reader is an x."""

    name: str | None
    role: str
    reader: int
    source: int
    weight: float | torch.Tensor


def build_state(settings: Settings, joints: dict, managed: frozenset, device: torch.device) -> CallState:
    lengths = {f"the mask of '{name}'": len(mask.rows) for name, mask in settings.masks.items()}
    if settings.pairs:
        lengths = {"the pairs": settings.samples, **lengths}
    if len(set(lengths.values())) > 1:
        sizes = ", ".join(f"{what}: {size}" for what, size in lengths.items())
        error = f"Pairs and masks are for different batch sizes ({sizes}): set them all for the same batch."
        return CallState(managed=managed, error=error)
    samples = next(iter(lengths.values()), None)
    return CallState(
        samples=samples,
        rows=self_rows(settings, samples, device),
        managed=managed,
        links=build_links(settings, joints, device) if settings.pairs and settings.enabled else None,
    )


def self_rows(settings: Settings, samples: int | None, device: torch.device) -> dict[str, Rows]:
    """`y_lora` of each name on its y samples, and the masks of self adapters."""
    weights = {lora_name(pair.name, "y"): [0.0] * samples for pair in settings.pairs}
    for pair in settings.pairs:
        weights[lora_name(pair.name, "y")][pair.y] = 1.0
    weights |= {name: mask.rows for name, mask in settings.masks.items() if not is_joint_lora(name)}
    return {name: select_rows(mask, device) for name, mask in weights.items()}


def select_rows(weights: Sequence[float], device: torch.device) -> Rows:
    """The entries with a weight other than zero."""
    places = [i for i, weight in enumerate(weights) if weight]
    kept = [float(weights[i]) for i in places]
    first = places[0] if places else 0
    consecutive = places == list(range(first, first + len(places)))
    return Rows(
        index=torch.tensor(places, dtype=torch.long, device=device),
        total=len(weights),
        span=(first, len(places)) if consecutive else None,
        weight=None if all(weight == 1.0 for weight in kept) else torch.tensor(kept, device=device),
    )


def build_links(settings: Settings, joints: dict[str | None, JointSpec], device: torch.device) -> Links:
    links, fusions = lay_out(settings.pairs)
    return Links(
        samples=settings.samples,
        readers=torch.tensor([link.reader for link in links], device=device),
        sources=torch.tensor([link.source for link in links], device=device),
        adapters=joint_rows(settings.masks, joints, links, device),
        fusions=fusions,
        weight=stack_weights(links, device),
    )


def lay_out(pairs: Sequence[Pair]) -> tuple[list[Link], tuple[Fusion, ...]]:
    """The links of each name in the order x of both, x alone, y of both, y alone, so that every part is a slice."""
    links, fusions = [], []
    for name in dict.fromkeys(pair.name for pair in pairs):
        both, x_alone, y_alone = ([p for p in pairs if p.name == name and p.direction == d] for d in DIRECTIONS)
        x_start = len(links)
        links += [Link(name, "xy", p.x, p.y, p.weights[0]) for p in both + x_alone]
        y_start = len(links)
        links += [Link(name, "yx", p.y, p.x, p.weights[1]) for p in both + y_alone]
        if both:
            fusions.append(Fusion(name, (x_start, len(both)), (y_start, len(both))))
        if x_alone:
            fusions.append(Fusion(name, (x_start + len(both), len(x_alone)), None))
        if y_alone:
            fusions.append(Fusion(name, None, (y_start + len(both), len(y_alone))))
    return links, tuple(fusions)


def joint_rows(masks: dict[str, Mask], joints: dict, links: list[Link], device) -> dict[str, tuple[Rows, Rows]]:
    """For each joint LoRA the links whose q and out it changes, and those whose k and v."""
    rows = {}
    for name in dict.fromkeys(link.name for link in links):
        for role, other in (("xy", "yx"), ("yx", "xy")):
            owner = role if joints[name].kv == "reader" else other
            weights = [[float((k.name, k.role) == (name, r)) for k in links] for r in (role, owner)]
            rows[lora_name(name, role)] = tuple(select_rows(each, device) for each in weights)
    for adapter, mask in masks.items():
        name = joint_name(adapter)
        if is_joint_lora(adapter) and any(link.name == name for link in links):
            weights = masked_links(mask, name, joints[name].kv, links)
            rows[adapter] = tuple(select_rows(each, device) for each in weights)
    return rows


def masked_links(mask: Mask, name: str | None, kv: str, links: list[Link]) -> tuple[list[float], list[float]]:
    query = [mask.rows[link.reader] if link.name == name else 0.0 for link in links]
    if mask.kv is None and kv == "reader":
        return query, query
    owned = mask.rows if mask.kv is None else mask.kv
    return query, [owned[link.source] if link.name == name else 0.0 for link in links]


def stack_weights(links: list[Link], device: torch.device) -> torch.Tensor | None:
    """(L,), or `None` where all are the number 1. Tensors stay on their device's stream: nothing is read back."""
    weights = [link.weight for link in links]
    if any(isinstance(weight, torch.Tensor) for weight in weights):
        return torch.stack([torch.as_tensor(w, dtype=torch.float32, device=device).reshape(()) for w in weights])
    if all(weight == 1 for weight in weights):
        return None
    return torch.tensor([float(weight) for weight in weights], device=device)
