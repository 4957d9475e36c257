"""How sure a mean is: bootstrap over the independent units (scenes, captions)."""

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
        weights: (N,), what a unit counts, such as the number of its objects; by default 1.
        level: Coverage of the interval.
        resamples: Draws of N units with replacement.
        seed: Of the draws.

    Raises:
        ValueError: There is no unit, or the lengths differ.
    """
    values = np.asarray(values, np.float64)
    weights = np.ones_like(values) if weights is None else np.asarray(weights, np.float64)
    if values.ndim != 1 or len(values) == 0 or values.shape != weights.shape:
        raise ValueError(
            f"Give a value and a weight for each of at least one unit, not {values.shape}, {weights.shape}."
        )
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    for i in range(resamples):
        drawn = rng.integers(len(values), size=len(values))
        means[i] = values[drawn].sum() / weights[drawn].sum()
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(values.sum() / weights.sum()), float(low), float(high))


def paired_difference(first, second, weights=None, **options) -> Estimate:
    """Mean of first - second over the same units, with an interval that draws both of a unit together.

    first, second: (N,). The other arguments are those of `bootstrap_mean`.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.shape != second.shape:
        raise ValueError(f"Pairs need as many values on both sides, not {first.shape} and {second.shape}.")
    return bootstrap_mean(first - second, weights, **options)
