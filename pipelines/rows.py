"""The rows of one batch: each side once for each prediction of the guidance, and who reads whom."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

import patch
from pipelines.sides import Side
from utils.diffusion.guidance import SEPARATE


@dataclass(frozen=True)
class Joint:
    """The joint attention of a sampling; without adapters there is none.

    Attributes:
        directions: Of each adapter's pairs: "both", "x_reads_y", "y_reads_x", or None where its pairs are left out.
        weights: Of what each adapter's sides read.
    """

    directions: Mapping[str, str | None] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)

    def reads(self, number: int, sides: Sequence[Side]) -> bool:
        """Whether a side reads another: side 0 is the x of all pairs, any other the y of its own."""
        if number == 0:
            return any(direction in ("both", "x_reads_y") for direction in self.directions.values())
        return self.directions[sides[number].name] in ("both", "y_reads_x")

    def is_read(self, number: int, sides: Sequence[Side]) -> bool:
        """Whether another side reads it."""
        if number == 0:
            return any(direction in ("both", "y_reads_x") for direction in self.directions.values())
        return self.directions[sides[number].name] in ("both", "x_reads_y")


@dataclass(frozen=True)
class Rows:
    """Slots of B rows each, all of side 0 first, so that the rows of an adapter are consecutive.

    Attributes:
        slots: (number of the side, prediction of the guidance).
        batch: B.
    """

    slots: tuple[tuple[int, str], ...]
    batch: int

    def cat(self, per_side: Sequence[torch.Tensor] | Mapping[int, torch.Tensor]) -> torch.Tensor:
        """A tensor (B, ...) for each side, by its number -> (slots * B, ...)"""
        return torch.cat([per_side[side] for side, _ in self.slots])

    def split(self, prediction: torch.Tensor) -> dict[int, dict[str, torch.Tensor]]:
        """(slots * B, ...) -> for each side with rows its predictions (B, ...) by name"""
        terms = {side: {} for side, _ in self.slots}
        for (side, term), part in zip(self.slots, prediction.split(self.batch), strict=True):
            terms[side][term] = part
        return terms

    def places(self, sides: Sequence[int]) -> list[int]:
        """Places in the batch of the rows of some sides."""
        return [
            i * self.batch + b for i, (side, _) in enumerate(self.slots) if side in sides for b in range(self.batch)
        ]

    def of(self, sides: Sequence[int]) -> "Rows":
        return Rows(tuple(slot for slot in self.slots if slot[0] in sides), self.batch)

    def first(self, side: int, term: str) -> int:
        """Place in the batch of the first row of a slot."""
        return self.slots.index((side, term)) * self.batch

    def without(self, term: str) -> "Rows":
        """The others, in their order, where a prediction of the guidance is not needed."""
        return Rows(tuple(slot for slot in self.slots if slot[1] != term), self.batch)

    def mask(self, side: int) -> list[int]:
        """1 for the rows of a side, 0 for the others."""
        return [int(number == side) for number, _ in self.slots for _ in range(self.batch)]


def lay_out_rows(sides: Sequence[Side], batch: int, terms: Sequence[str], joint: Joint) -> Rows:
    """A given side is not denoised: it has rows only where another reads it, so none in the predictions of a separate
    model.

    Args:
        terms: Predictions that the guidance needs.
    """
    slots = []
    for i, side in enumerate(sides):
        if not side.given:
            slots += [(i, term) for term in terms]
        elif joint.is_read(i, sides):
            slots += [(i, term) for term in terms if term != SEPARATE]
    return Rows(tuple(slots), batch)


@contextmanager
def paired(unet, rows: Rows, sides: Sequence[Side], joint: Joint) -> Iterator[None]:
    """Within it the rows are paired, and those of a condition have its own adapter; nothing without joint attention."""
    if not joint.weights:
        yield
        return
    patch.set_pairs(unet, make_pairs(rows, sides, joint), batch_size=len(rows.slots) * rows.batch)
    masks = {f"{side.name}_y_lora": rows.mask(i) for i, side in enumerate(sides) if side.name is not None}
    masks = {adapter: mask for adapter, mask in masks.items() if adapter in unet.peft_config}
    try:
        for adapter, mask in masks.items():
            patch.set_patch_lora_mask(unet, adapter, mask)
        yield
    finally:
        for adapter in masks:
            patch.set_patch_lora_mask(unet, adapter, None)
        patch.clear_pairs(unet)


def make_pairs(rows: Rows, sides: Sequence[Side], joint: Joint) -> list[patch.Pair]:
    """One pair for each sample and prediction in which both of its sides have rows."""
    pairs = []
    for i, side in enumerate(sides[1:], start=1):
        direction = joint.directions[side.name]
        if direction is None or not any(number == 0 for number, _ in rows.slots):
            continue
        for term in [term for number, term in rows.slots if number == i and term != SEPARATE]:
            x, y = rows.first(0, term), rows.first(i, term)
            weight = joint.weights[side.name]
            pairs += [patch.Pair(x + b, y + b, side.name, weight, direction) for b in range(rows.batch)]
    return pairs


def default_direction(x_given: bool, y_given: bool) -> str | None:
    """A given side does not read the other; None where both are given, as nothing is left to be read."""
    if x_given and y_given:
        return None
    if x_given:
        return "y_reads_x"
    return "x_reads_y" if y_given else "both"


def run_constant(unet, sides: Sequence[Side], rows: Rows, joint: Joint, run: Callable[[Rows], object]) -> Rows:
    """Run once the rows that are the same at every step, of given sides that read no other, and return the others."""
    present = sorted({i for i, _ in rows.slots})
    constant = [i for i in present if sides[i].given and not joint.reads(i, sides)]
    if not constant:
        return rows
    with patch.record(unet, rows.places(constant)):
        run(rows.of(constant))
    return rows.of([i for i in present if i not in constant])
