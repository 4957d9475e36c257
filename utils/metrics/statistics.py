"""Intervals of means: bootstrap over the independent units (scenes, captions)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A mean with its percentile interval."""

    mean: float
    low: float
    high: float


def bootstrap_mean(values, weights=None, *, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> Estimate:
    """sum(values) / sum(weights) with its percentile bootstrap interval (Efron 1979), resampling units.

    Args:
        values: (N,), one for each unit, such as the number of its objects that are right.
        weights: (N,), weight of a unit, such as the number of its objects; by default 1.
        level: Coverage of the interval.
        resamples: Number of draws of N units with replacement.
        seed: Seed of the draws.

    Raises:
        ValueError: There is no unit, or the lengths differ.
    """
    values = np.asarray(values, np.float64)
    weights = np.ones_like(values) if weights is None else np.asarray(weights, np.float64)
    if values.ndim != 1 or len(values) == 0 or values.shape != weights.shape:
        raise ValueError(
            f"Give a value and a weight for each of at least one unit, not {values.shape}, {weights.shape}."
        )
    options = {"level": level, "resamples": resamples, "seed": seed}
    return bootstrap(lambda drawn: values[drawn].sum() / weights[drawn].sum(), len(values), **options)


def bootstrap(
    statistic: Callable[[np.ndarray], float],
    count: int,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """A statistic of units with its percentile bootstrap interval.

    statistic: From the numbers of units, some repeatedly, to a value. The other arguments are those of
        `bootstrap_mean`.
    """
    rng = np.random.default_rng(seed)
    drawn = [statistic(rng.integers(count, size=count)) for _ in range(resamples)]
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(statistic(np.arange(count))), float(low), float(high))


def paired_difference(first, second, weights=None, **options) -> Estimate:
    """Mean of first - second over the same units, with an interval that draws both of a unit together.

    first, second: (N,). The other arguments are those of `bootstrap_mean`.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.shape != second.shape:
        raise ValueError(f"Pairs need as many values on both sides, not {first.shape} and {second.shape}.")
    return bootstrap_mean(first - second, weights, **options)


def rank_correlation(first, second) -> float:
    """Spearman's rank correlation of two series (N,), -1 to 1; ties have their mean rank; 0 if a series is constant.

    Raises:
        ValueError: The lengths differ, or there are fewer than 2 values.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.shape != second.shape or first.ndim != 1 or len(first) < 2:
        raise ValueError(f"Ranks need two series of one length of at least 2, not {first.shape} and {second.shape}.")
    a, b = (_ranks(values) - (len(values) + 1) / 2 for values in (first, second))
    norm = np.sqrt((a**2).sum() * (b**2).sum())
    return float((a * b).sum() / norm) if norm else 0.0


def _ranks(values: np.ndarray) -> np.ndarray:
    """From 1 on; equal values share the mean of their places."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[inverse]
