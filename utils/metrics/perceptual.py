"""Perceptual distance of images by the features of a network."""

from collections.abc import Callable, Sequence

import torch
from torch.nn import functional

Maps = Callable[[torch.Tensor], Sequence[torch.Tensor]]  # (B, 3, H, W) -> maps (B, C, h, w) of any sizes


@torch.no_grad()
def perceptual_distance(estimate: torch.Tensor, truth: torch.Tensor, maps: Maps) -> torch.Tensor:
    """Distances (B,) of images (B, 3, H, W) in [-1, 1]: LPIPS (Zhang et al., CVPR 2018) without learned weights.

    The features of each place are brought to length 1; their squared distance is averaged over places and summed over
    the maps. 0 for equal images, at most 4 a map. Values of another network do not compare.
    """
    if estimate.shape != truth.shape or estimate.ndim != 4:
        raise ValueError(f"Images have one shape (B, 3, H, W), not {tuple(estimate.shape)} and {tuple(truth.shape)}.")
    pairs = zip(maps(estimate), maps(truth), strict=True)
    units = [[functional.normalize(one.float(), dim=1) for one in pair] for pair in pairs]
    return sum((a - b).square().sum(dim=1).mean(dim=(1, 2)) for a, b in units)
