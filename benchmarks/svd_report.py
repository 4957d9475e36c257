"""From the rows of `benchmarks.eval_svd` to numbers with intervals."""

from collections.abc import Mapping

import numpy as np
import torch

from benchmarks.protocol import Estimates, Results
from utils.metrics.frechet import bootstrap_distance, distance_of_features
from utils.metrics.statistics import Estimate, bootstrap, bootstrap_mean, paired_difference, rank_correlation
from utils.scenes.clips import REACHES

SAME_SCENES = (
    "frozen",
    "autoencoder",
    "samples",
    "fixed",
)  # tasks of the first frames of the true clips, in their order
RESAMPLES = 500  # draws for the interval of a difference of distances


def features(results: Results, task: str) -> torch.Tensor:
    """Features (N, D) of the video judge."""
    return torch.tensor([row["features"] for row in results.rows[task]], dtype=torch.float64)


def known_means(values: Mapping[str, np.ndarray]) -> dict[str, Estimate]:
    """The mean of each figure over the samples that have it; figures that none has are left out."""
    known = {name: column[~np.isnan(column)] for name, column in values.items()}
    return {name: bootstrap_mean(column) for name, column in known.items() if len(column)}


def fvd_to_truth(results: Results, task: str) -> dict[str, Estimate]:
    """The Fréchet video distance of a task from the true clips, where both were measured."""
    if task == "truth" or "truth" not in results.rows:
        return {}
    return {"fvd": bootstrap_distance(features(results, "truth"), features(results, task), paired=True)}


def summarize(results: Results, before: Results | None = None) -> Estimates:
    """Estimates by task and name; with the results of another model also what differs between the two.

    Raises:
        ValueError: The other results are of other clips.
    """
    estimates = {task: means(results, task) for task in results.rows}
    if "truth" in results.rows:
        estimates["truth"] |= {"fvd_of_halves": halves(results)}
        for task in results.rows.keys() - {"truth", "buckets"}:
            estimates[task] |= distance_to_truth(results, task)
        for task in results.rows.keys() & set(SAME_SCENES):
            estimates[task] |= motion_against_truth(results, task)
        if {"samples", "fixed"} <= results.rows.keys():
            estimates["fixed - samples"] = {"motion_error": difference_of_errors(results)}
    if "buckets" in results.rows:
        estimates["buckets"] = obedience(results)
    if before:
        estimates["samples - samples before"] = change(results, before)
    return estimates


def means(results: Results, task: str) -> dict[str, Estimate]:
    numbers = {name: results.values(task, name) for name in ("motion", "object_motion", "consistency")}
    numbers |= looks(results, task)
    cameras = results.values(task, "camera")
    numbers |= {f"judged_{name}": cameras == name for name in REACHES}
    return {name: bootstrap_mean(values) for name, values in numbers.items()}


def looks(results: Results, task: str) -> dict[str, np.ndarray]:
    """Shape and colour in the clips that have them; results of earlier evaluations have none."""
    kept = {}
    for name in ("shape_kept", "color_drift"):
        values = np.array([row.get(name, np.nan) for row in results.rows[task]])
        if not np.isnan(values).all():
            kept[name] = values[~np.isnan(values)]
    return kept


def distance_to_truth(results: Results, task: str) -> dict[str, Estimate]:
    paired = task in SAME_SCENES
    found = features(results, task)
    truth = features(results, "truth")[: len(found)] if paired else features(results, "truth")
    return {"fvd": bootstrap_distance(truth, found, paired=paired)}


def halves(results: Results) -> Estimate:
    """Distance of every other true clip from those between."""
    found = features(results, "truth")
    return bootstrap_distance(found[::2], found[1::2])


def motion_against_truth(results: Results, task: str) -> dict[str, Estimate]:
    """Ratios of the mean motions, and mean errors of a clip's motion."""
    ratios, errors = {}, {}
    for name in ("motion", "object_motion"):
        found = results.values(task, name)
        true = results.values("truth", name)[: len(found)]
        ratios[f"{name}_ratio"] = bootstrap_mean(found, true)
        errors[f"{name}_error"] = bootstrap_mean(abs(found - true))
    return ratios | errors


def difference_of_errors(results: Results) -> Estimate:
    """By how much a clip's motion is farther from truth with the fixed bucket."""
    fixed = results.values("fixed", "motion")
    computed, true = (results.values(task, "motion")[: len(fixed)] for task in ("samples", "truth"))
    return paired_difference(abs(fixed - true), abs(computed - true))


def obedience(results: Results) -> dict[str, Estimate]:
    """Rank correlation of bucket and motion, mean over scenes and over all samples; then means at each bucket."""
    tried = results.settings["buckets"]
    table = {name: results.values("buckets", name).reshape(-1, len(tried)) for name in ("object_motion", "motion")}
    found = {}
    for name, values in table.items():
        found[f"{name}_rank_correlation"] = bootstrap_mean([rank_correlation(tried, row) for row in values])
        found[f"{name}_rank_correlation_pooled"] = bootstrap(
            lambda drawn, v=values: rank_correlation(np.tile(tried, len(drawn)), v[drawn].ravel()), len(values)
        )
    for name, values in table.items():
        found |= {f"{name}_at_{bucket}": bootstrap_mean(values[:, k]) for k, bucket in enumerate(tried)}
    return found


def change(results: Results, before: Results) -> dict[str, Estimate]:
    """Difference of two models' distances from the same true clips; below 0: the samples of `results` are nearer."""
    for both in (results, before):
        if not {"truth", "samples"} <= both.rows.keys():
            raise ValueError("--compare_to needs the tasks truth and samples of both models: measure them first.")
    truth, other = (features(both, "truth") for both in (results, before))
    if truth.shape != other.shape or not torch.allclose(truth, other, atol=1e-3):
        raise ValueError("--compare_to holds results of other clips: give both runs the same --camera and seeds.")
    return {"fvd": difference_of_distances(truth, features(results, "samples"), features(before, "samples"))}


def difference_of_distances(truth, after, before) -> Estimate:
    """Fréchet distance of truth and after less that of truth and before, all (N, D) and drawn together."""

    def difference(drawn) -> float:
        return distance_of_features(truth[drawn], after[drawn]) - distance_of_features(truth[drawn], before[drawn])

    return bootstrap(difference, len(truth), resamples=RESAMPLES)
