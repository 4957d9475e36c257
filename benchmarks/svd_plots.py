"""Plots of `benchmarks.eval_svd`."""

from pathlib import Path

import numpy as np

from benchmarks.protocol import Results
from utils.files import replacing

PANEL = 4.2  # inches


def plot_motion(path: Path, results: Results) -> None:
    """Write the panels for which there are results: motion over buckets, and motion of samples over that of truth."""
    from matplotlib.figure import Figure

    panels = []
    if "buckets" in results.rows:
        panels += [
            lambda axes: plot_sweep(axes, results, "object_motion"),
            lambda axes: plot_sweep(axes, results, "motion"),
        ]
    panels += [
        lambda axes, t=task: plot_scatter(axes, results, t)
        for task in ("samples", "fixed")
        if {"truth", task} <= results.rows.keys()
    ]
    if not panels:
        return
    figure = Figure(figsize=(PANEL * len(panels), PANEL), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        panel(axes)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)


def plot_sweep(axes, results: Results, name: str) -> None:
    """A thin line for each scene, a thick one for their mean."""
    tried = results.settings["buckets"]
    order = np.argsort(tried)
    values = results.values("buckets", name).reshape(-1, len(tried))[:, order]
    axes.plot(np.array(tried)[order], values.T, color="0.8", linewidth=0.7)
    axes.plot(np.array(tried)[order], values.mean(axis=0), color="C0", linewidth=2.5, marker="o")
    axes.set(xlabel="motion bucket", ylabel=f"{name.replace('_', ' ')}, pixels per frame")


def plot_scatter(axes, results: Results, task: str) -> None:
    """A point for each clip, on the diagonal where its motion is the true one."""
    found = results.values(task, "motion")
    true = results.values("truth", "motion")[: len(found)]
    limit = 1.05 * max(found.max(), true.max(), 1e-3)
    axes.plot([0, limit], [0, limit], color="0.6", linewidth=0.8)
    axes.scatter(true, found, s=9, alpha=0.6)
    title = {"samples": "bucket of the true clip", "fixed": "bucket 127 for all"}[task]
    axes.set(xlabel="motion of the true clip, pixels per frame", ylabel="motion of the sample", title=title)
