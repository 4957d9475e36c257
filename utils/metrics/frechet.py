"""Distance of two sets of images or videos by Gaussians of their features (Heusel et al., NeurIPS 2017; torchmetrics).

    d² = |m - m'|² + trace(C + C' - 2 (C C')^½)      with means m and covariances C (divided by n - 1) of the features

With features of Inception-v3 this is FID, with those of I3D the Fréchet video distance (Unterthiner et al., arXiv
1812.01717). Values depend on the network, on the size that images are resized to, and on their number (fewer give
larger values): compare only where all three are the same.
"""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from utils.metrics.statistics import Estimate

Features = Callable[[torch.Tensor], torch.Tensor]


@torch.no_grad()
def frechet_distance(real: Iterable[torch.Tensor], generated: Iterable[torch.Tensor], features: Features) -> float:
    """Fréchet distance of two sets that come in batches.

    Args:
        real, generated: Batches of what `features` takes: images (B, 3, H, W) or videos (B, F, 3, H, W), pixels in
            [-1, 1]; at least 2 samples in all, and more than features for a covariance of full rank.
        features: A batch to (B, D). It does its network's own resizing and normalising.

    Raises:
        ValueError: A set has fewer than 2 samples, or the features have another shape.
    """
    return distance_of_features(*(collect_features(batches, features) for batches in (real, generated)))


def distance_of_features(real: torch.Tensor, generated: torch.Tensor) -> float:
    """Fréchet distance of features (N, D) and (M, D)."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    for samples in (real, generated):
        if samples.ndim != 2 or len(samples) < 2 or samples.shape[1] != real.shape[1]:
            raise ValueError(f"Features have the shape (N, D) with at least 2 samples, not {tuple(samples.shape)}.")
    metric = FrechetInceptionDistance(feature=_Identity(real.shape[1])).set_dtype(torch.float64)
    metric.update(real.double(), real=True)
    metric.update(generated.double(), real=False)
    return max(metric.compute().item(), 0.0)


def bootstrap_distance(
    real: torch.Tensor,
    generated: torch.Tensor,
    *,
    paired: bool = False,
    level: float = 0.95,
    resamples: int = 500,
    seed: int = 0,
) -> Estimate:
    """Fréchet distance of features (N, D) and (M, D) with a bootstrap interval over the samples.

    Sets that are drawn with replacement are farther apart than those that they are drawn from; the interval is that of
    the draws, shifted by as much as their mean lies above the distance, and cut at 0.

    Args:
        real, generated: At least 2 samples each.
        paired: The i-th samples belong together (N = M), such as those from one first frame, and are drawn together.
        level: Coverage of the interval.
        resamples: Number of draws.
        seed: Seed of the draws.

    Raises:
        ValueError: A shape is wrong, or `paired` sets differ in length.
    """
    if paired and len(real) != len(generated):
        raise ValueError(f"Pairs need as many samples on both sides, not {len(real)} and {len(generated)}.")
    distance = distance_of_features(real, generated)
    rng = np.random.default_rng(seed)
    drawn = np.empty(resamples)
    for i in range(resamples):
        first = rng.integers(len(real), size=len(real))
        second = first if paired else rng.integers(len(generated), size=len(generated))
        drawn[i] = distance_of_features(real[first], generated[second])
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]) - (drawn.mean() - distance)
    return Estimate(distance, max(float(low), 0.0), max(float(high), 0.0))


def collect_features(batches: Iterable[torch.Tensor], features: Features) -> torch.Tensor:
    """Features (N, D) of all batches, float64, on the CPU."""
    found = [features(batch).double().cpu() for batch in tqdm(batches, desc="features")]
    if not found:
        raise ValueError("There is no sample to compare.")
    return torch.cat(found)


class _Identity(nn.Module):
    """The network that torchmetrics asks for, here of features that are computed already."""

    def __init__(self, num_features: int):
        super().__init__()
        self.num_features = num_features

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features
