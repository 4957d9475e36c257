"""Shared by training and sampling of a pair: trigger words, directions, and noise levels."""

from collections.abc import Sequence

import torch

GIVEN_TIMESTEP = 0  # of a side that is clean


def with_trigger(trigger: str, caption: str) -> str:
    """The caption of a condition, which begins with its trigger word."""
    return ", ".join(filter(None, [trigger, caption]))


def draw_direction(args) -> str:
    """Which sides of a whole batch read the other: one way alone in `args.one_way_share` of the draws."""
    draw = float(torch.rand(()))
    if draw >= args.one_way_share:
        return "both"
    return "x_reads_y" if draw < args.one_way_share / 2 else "y_reads_x"


def draw_given(B: int, direction: str, x_share: float, y_share: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Whether x and y of each pair are given, bool (B,); never both, and with one direction the side that is read."""
    draw = torch.rand(B)
    if direction != "both":
        return torch.full((B,), direction == "y_reads_x"), torch.full((B,), direction == "x_reads_y")
    return draw < x_share, draw >= 1 - y_share


def relate_levels(
    level_x: torch.Tensor, level_y: torch.Tensor, direction: str, shares: Sequence[float], given: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise levels (B,) of both sides, independent but for some equal pairs; `given` where a side is given.

    With one direction the side that is read is given, as in sampling, and has no loss; independent draws would almost
    never produce that case.

    Args:
        shares: Of equal levels, of pairs whose x is given, and of pairs whose y is given.
    """
    equal, x_share, y_share = shares
    level_y = torch.where(torch.rand(len(level_x)) < equal, level_x, level_y)
    x_given, y_given = draw_given(len(level_x), direction, x_share, y_share)
    return level_x.masked_fill(x_given, given), level_y.masked_fill(y_given, given)


def check_share_arguments(args, names: Sequence[str], groups: Sequence[Sequence[str]]) -> None:
    """Raises ValueError for a share outside of 0 to 1, and for a group of them that adds up to more than 1."""
    for name in names:
        if not 0 <= getattr(args, name) <= 1:
            raise ValueError(f"--{name} is {getattr(args, name)}, which is not a share: pass 0 to 1.")
    for group in groups:
        if (total := sum(getattr(args, name) for name in group)) > 1 + 1e-6:
            raise ValueError(
                f"{', '.join(f'--{name}' for name in group)} add up to {total:g}: lower them to 1 at most."
            )
