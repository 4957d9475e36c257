"""How well the objects of a video follow the wanted paths, and figures of many videos."""

import numpy as np
import torch

from benchmarks.color_finder import find_objects
from benchmarks.drag_scenes import DragScene
from utils.metrics.frechet import bootstrap_distance
from utils.metrics.statistics import Estimate, bootstrap, bootstrap_mean, paired_difference


def obtained_paths(video: torch.Tensor, scene: DragScene) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Where the objects of a video (F, 3, H, W) in [-1, 1] go.

    Returns:
        Shifts (F, K, 2) of the centroids of all K objects since the true first frame; whether each is lost, bool
        (F, K); and the paths (F, N, 2) of the dragged points, which are their first places and the shifts of their
        objects.
    """
    colors = scene.colors, scene.floor, scene.wall
    first, found = find_objects(scene.pixels[:1], *colors), find_objects(video, *colors)
    shifts = found.places - first.places
    dragged, lost = list(scene.dragged), found.lost(first.areas[0]) | shifts.isnan().any(dim=-1)
    return shifts, lost, torch.from_numpy(scene.points)[:1] + shifts[:, dragged]


def score(video: torch.Tensor, scene: DragScene) -> dict[str, list[float]]:
    """Numbers of each dragged point, and of each other object.

    error: mean distance from the wanted path over all frames but the first, pixels; where the object is lost, the
        distance asked.
    end_error: that of the last frame.
    asked: the distance asked, from the first to the last wanted place.
    lost: share of the frames in which the object is lost.
    undragged: mean distance of another object from its first place over all frames but the first; where it is lost, its
        last known.
    undragged_lost: share of the frames in which it is lost.
    """
    shifts, lost, obtained = obtained_paths(video, scene)
    wanted, dragged = torch.from_numpy(scene.points), list(scene.dragged)
    asked = (wanted[-1] - wanted[0]).norm(dim=-1)
    errors = torch.where(lost[:, dragged], asked, (obtained - wanted).norm(dim=-1))[1:]
    others = [k for k in range(len(scene.colors)) if k not in dragged]
    moved = hold(shifts[:, others], lost[:, others])[1:].norm(dim=-1)
    return {
        "error": errors.mean(dim=0).tolist(),
        "end_error": errors[-1].tolist(),
        "asked": asked.tolist(),
        "lost": lost[1:, dragged].float().mean(dim=0).tolist(),
        "undragged": moved.mean(dim=0).tolist(),
        "undragged_lost": lost[1:, others].float().mean(dim=0).tolist(),
    }


def hold(paths: torch.Tensor, lost: torch.Tensor) -> torch.Tensor:
    """Paths (F, K, 2) that stay at the last place where they were not lost, bool (F, K); before, at the first, or 0."""
    held = [paths[0].nan_to_num()]
    for place, gone in zip(paths[1:], lost[1:], strict=True):
        held.append(torch.where(gone[:, None], held[-1], place))
    return torch.stack(held)


def summarize(rows: dict[str, list[dict]]) -> dict[str, dict[str, Estimate]]:
    """Estimates by method and name; with rows of "truth" also distances from it. Intervals are over scenes."""
    found = {method: of_method(some) for method, some in rows.items()}
    truth = rows.get("truth")
    for method in rows.keys() - {"truth"} if truth else ():
        found[method] |= against_truth(truth, rows[method])
    return found


def of_method(rows: list[dict]) -> dict[str, Estimate]:
    found = {}
    for name in ("error", "end_error"):
        found[name] = mean_over_points(rows, name)
        found[f"{name}_share"] = mean_over_points(with_shares(rows, name), "share")
        found[f"{name}_p90"] = percentile_over_points(rows, name)
        found[f"{name}_share_p90"] = percentile_over_points(with_shares(rows, name), "share")
    for name in ("asked", "lost", "undragged", "undragged_lost"):
        if any(row[name] for row in rows):
            found[name] = mean_over_points(rows, name)
    found["motion"] = bootstrap_mean([row["motion"] for row in rows])
    return found


def against_truth(truth: list[dict], rows: list[dict]) -> dict[str, Estimate]:
    """Differences of a method's videos from the true ones of the same scenes."""
    features = [torch.tensor([row["features"] for row in some], dtype=torch.float64) for some in (truth, rows)]
    moved = [np.array([sum(row["undragged"]) for row in some]) for some in (rows, truth)]
    counts = np.array([len(row["undragged"]) for row in rows])
    motions = [np.array([row["motion"] for row in some]) for some in (rows, truth)]
    found = {
        "fvd": bootstrap_distance(*features, paired=True),
        "motion_ratio": bootstrap_mean(*motions),
    }
    if counts.any():
        some = counts > 0
        difference = paired_difference(moved[0][some], moved[1][some], counts[some])
        found["undragged_more_than_truth"] = difference
    return found


def with_shares(rows: list[dict], name: str) -> list[dict]:
    return [{"share": [e / a for e, a in zip(row[name], row["asked"], strict=True)]} for row in rows]


def mean_over_points(rows: list[dict], name: str) -> Estimate:
    """Mean over all points of all scenes that have some."""
    some = [row[name] for row in rows if row[name]]
    return bootstrap_mean([sum(values) for values in some], [len(values) for values in some])


def percentile_over_points(rows: list[dict], name: str) -> Estimate:
    """90th percentile over all points of all scenes."""
    values = [row[name] for row in rows]
    return bootstrap(lambda drawn: float(np.percentile(np.concatenate([values[i] for i in drawn]), 90)), len(rows))
