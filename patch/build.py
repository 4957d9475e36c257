"""From what the user asked for to what the forward reads: index tensors and slices, made once per setting."""

from collections.abc import Sequence

import torch

from patch.state import (
    DIRECTIONS,
    CallState,
    Fusion,
    JointSpec,
    Links,
    Mask,
    Rows,
    Settings,
    is_joint_lora,
    joint_name,
    lora_name,
)


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
