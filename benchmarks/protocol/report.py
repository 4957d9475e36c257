"""Tables and sheets of results."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from utils.files import replacing
from utils.images import read_image
from utils.metrics.statistics import Estimate

Estimates = dict[str, dict[str, Estimate]]  # by row and figure


def long_table(estimates: Estimates, counts: dict[str, int]) -> list[str]:
    """A line for each figure."""
    lines = ["| task | measure | mean | 95% interval | samples |", "|---|---|---|---|---|"]
    return lines + [
        f"| {row} | {name} | {value.mean:.4f} | {value.low:.4f} to {value.high:.4f} | {counts.get(row, '')} |"
        for row, figures in estimates.items()
        for name, value in figures.items()
    ]


def wide_table(estimates: Estimates, head: str) -> list[str]:
    """A line for each row, a column for each figure; head: of the first column."""
    names = list(dict.fromkeys(name for figures in estimates.values() for name in figures))
    lines = [f"| {head} | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for row, figures in estimates.items():
        cells = [cell(figures[name]) if name in figures else "" for name in names]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return lines


def cell(value: Estimate) -> str:
    return f"{value.mean:.3f} ({value.low:.3f} to {value.high:.3f})"


def method_table(estimates: Estimates, counts: dict[str, int]) -> list[str]:
    """A line for each method, with the number of clips that it was measured on."""
    return wide_table({f"{name} ({counts[name]})": figures for name, figures in estimates.items()}, "method (clips)")


def transposed(estimates: Estimates) -> Estimates:
    """The same by figure and row."""
    names = dict.fromkeys(name for figures in estimates.values() for name in figures)
    return {name: {row: figures[name] for row, figures in estimates.items() if name in figures} for name in names}


def stack_sheets(path: Path, sheets: dict[str, Path]) -> None:
    """Write the sheets that are there as one image, each below its name."""
    found = {name: sheet for name, sheet in sheets.items() if sheet.is_file()}
    strips = [strip for name, sheet in found.items() for strip in (title(name), read_image(sheet))]
    if not strips:
        return
    whole = Image.new("RGB", (max(s.width for s in strips), sum(s.height for s in strips)), "white")
    for strip, top in zip(strips, np.cumsum([0, *(s.height for s in strips)]).tolist(), strict=False):
        whole.paste(strip, (0, top))
    with replacing(path) as temporary:
        whole.save(temporary)


def title(text: str) -> Image.Image:
    strip = Image.new("RGB", (8 * len(text) + 8, 16), "white")
    ImageDraw.Draw(strip).text((4, 2), text, fill="black")
    return strip
