"""Images of `benchmarks.eval_long_video`."""

from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.long_video_tasks import SEAMS
from benchmarks.protocol import Estimates, Results
from utils.files import replacing
from utils.images import read_image
from utils.metrics.statistics import Estimate

DRIFTS = {"color": "colours against segment 1", "content": "cosine to the first frame", "motion": "mean flow, px"}


def plot(folder: Path, results: Results, estimates: Estimates) -> None:
    """Writes results.png, the drift and the seams, and sheet.png, the videos."""
    plot_drift(folder / "results.png", estimates)
    write_sheet(folder / "sheet.png", results)


def plot_drift(path: Path, estimates: Estimates) -> None:
    """Drift over segments, and seams, with 95% intervals."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 3.5), layout="constrained")
    *axes, last = figure.subplots(1, len(DRIFTS) + 1)
    for axis, (name, title) in zip(axes, DRIFTS.items(), strict=True):
        for way, found in estimates.items():
            values = [value for key, value in found.items() if key.startswith(f"{name}_")]
            plot_errors(axis, range(1, len(values) + 1), values, way)
        axis.set(title=title, xlabel="segment")
        axis.legend()
    for place, (way, found) in enumerate(estimates.items()):
        seams = [found[f"seam_{name}"] for name in SEAMS]
        plot_errors(last, [k + place / 10 for k in range(len(SEAMS))], seams, way, "o")
    last.set(title="change at seams / elsewhere", xticks=[0.1, 1.1], xticklabels=list(SEAMS))
    last.axhline(1, color="gray", linewidth=0.5)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def plot_errors(axis, places, values: list[Estimate], label: str, style: str = "o-") -> None:
    spread = [[value.mean - value.low for value in values], [value.high - value.mean for value in values]]
    axis.errorbar(places, [value.mean for value in values], spread, fmt=style, label=label, capsize=3, markersize=4)


def write_sheet(path: Path, results: Results) -> None:
    """The videos of each scene below one another: truth, overlap, restart."""
    sheets, side = [np.asarray(read_image(sheet)) for sheet in results.sheets.values()], results.settings["resolution"]
    rows = [sheet[top : top + side] for top in range(0, len(sheets[0]), side) for sheet in sheets]
    with replacing(path) as temporary:
        Image.fromarray(np.concatenate(rows)).save(temporary)
