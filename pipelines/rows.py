"""The rows of one batch: each side once for each term of the guidance, and who reads whom."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

import patch
from pipelines.sides import Side

FREE, TEXT, ALONE = "free", "text", "alone"  # without the prompt; with it; with it and without joint attention


@dataclass(frozen=True)
class Rows:
    """Slots of B rows each, all of the image first, so that an adapter's rows are consecutive.

    slots: (number of the side, term of the guidance); side 0 is the image.
    """

    slots: tuple[tuple[int, str], ...]
    batch: int

    def cat(self, per_side: list[torch.Tensor] | dict[int, torch.Tensor]) -> torch.Tensor:
        """A tensor (B, ...) for each side, by its number -> (slots * B, ...)"""
        return torch.cat([per_side[side] for side, _ in self.slots])

    def split(self, prediction: torch.Tensor) -> dict[int, dict[str, torch.Tensor]]:
        """(slots * B, ...) -> for each side with rows its terms, (B, ...)"""
        terms = {side: {} for side, _ in self.slots}
        for (side, term), part in zip(self.slots, prediction.split(self.batch), strict=True):
            terms[side][term] = part
        return terms

    def places(self, sides: list[int]) -> list[int]:
        """Places in the batch of the rows of some sides."""
        return [
            i * self.batch + b for i, (side, _) in enumerate(self.slots) if side in sides for b in range(self.batch)
        ]

    def of(self, sides: list[int]) -> "Rows":
        return Rows(tuple(slot for slot in self.slots if slot[0] in sides), self.batch)

    def first(self, side: int, term: str) -> int:
        """Place in the batch of the first row of a slot."""
        return self.slots.index((side, term)) * self.batch


def lay_out_rows(
    sides: list[Side], batch: int, text_guidance: bool, condition_guidance: bool, directions: dict
) -> Rows:
    """A given side is not denoised: it has rows only where another reads it, so none without joint attention."""
    terms = [FREE] * text_guidance + [TEXT] + [ALONE] * condition_guidance
    slots = []
    for i, side in enumerate(sides):
        if not side.given:
            slots += [(i, term) for term in terms]
        elif is_read(i, sides, directions):
            slots += [(i, term) for term in terms if term != ALONE]
    return Rows(tuple(slots), batch)


def constant_sides(sides: list[Side], rows: Rows, directions: dict) -> list[int]:
    """Numbers of the sides that are the same at every step: given, and reading no other."""
    present = sorted({i for i, _ in rows.slots})
    return [i for i in present if sides[i].given and not reads_another(i, sides, directions)]


def reads_another(number: int, sides: list[Side], directions: dict) -> bool:
    """Whether a side reads the other one of a pair: the image is the x of all pairs, a condition the y of its own."""
    if number == 0:
        return any(direction in ("both", "x_reads_y") for direction in directions.values())
    return directions[sides[number].name] in ("both", "y_reads_x")


def is_read(number: int, sides: list[Side], directions: dict) -> bool:
    """Whether the other one of a pair reads a side."""
    if number == 0:
        return any(direction in ("both", "y_reads_x") for direction in directions.values())
    return directions[sides[number].name] in ("both", "x_reads_y")


@contextmanager
def paired(unet, rows: Rows, sides: list[Side], weights: dict[str, float], directions: dict) -> Iterator[None]:
    """Sets the pairs of the batch and the rows of each condition's own adapter, and takes them away at the end."""
    total = len(rows.slots) * rows.batch
    patch.set_pairs(unet, make_pairs(rows, sides, weights, directions), batch_size=total)
    masks = {f"{side.name}_y_lora": own_rows(rows, i) for i, side in enumerate(sides) if side.name is not None}
    masks = {adapter: mask for adapter, mask in masks.items() if adapter in unet.peft_config}
    try:
        for adapter, mask in masks.items():
            patch.set_patch_lora_mask(unet, adapter, mask)
        yield
    finally:
        for adapter in masks:
            patch.set_patch_lora_mask(unet, adapter, None)
        patch.clear_pairs(unet)


def make_pairs(rows: Rows, sides: list[Side], weights: dict[str, float], directions: dict) -> list[patch.Pair]:
    """directions: of each condition, None where its pairs are left out."""
    pairs = []
    for i, side in enumerate(sides[1:], start=1):
        direction = directions[side.name]
        if direction is None or not any(number == 0 for number, _ in rows.slots):
            continue
        for term in [term for number, term in rows.slots if number == i and term != ALONE]:
            x, y = rows.first(0, term), rows.first(i, term)
            pairs += [patch.Pair(x + b, y + b, side.name, weights[side.name], direction) for b in range(rows.batch)]
    return pairs


def default_direction(image_given: bool, condition_given: bool) -> str | None:
    """A given side does not read the other; None where both are given, as nothing is left to be read."""
    if image_given and condition_given:
        return None
    if image_given:
        return "y_reads_x"
    return "x_reads_y" if condition_given else "both"


def own_rows(rows: Rows, side: int) -> list[int]:
    return [int(number == side) for number, _ in rows.slots for _ in range(rows.batch)]


def guided(terms: dict[str, torch.Tensor], guidance_scale: float, condition_guidance_scale: float) -> torch.Tensor:
    """eps_u + s (eps_t - eps_u) + s_c (eps_t^joint - eps_t^separate) (UniCon, arXiv 2410.11439)."""
    prediction = terms[TEXT]
    if FREE in terms:
        prediction = terms[FREE] + guidance_scale * (terms[TEXT] - terms[FREE])
    if ALONE in terms:
        prediction = prediction + condition_guidance_scale * (terms[TEXT] - terms[ALONE])
    return prediction
