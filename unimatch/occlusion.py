"""Which pixels of one image the other does not show, from flows in both directions (UnFlow, arXiv 1711.07837, 3.2)."""

import torch

from .geometry import warp


def consistency_error(forward: torch.Tensor, backward: torch.Tensor) -> torch.Tensor:
    """How far a pixel lands from itself after going there and back: (B, H, W), pixels.

    Args:
        forward: Flow (B, 2, H, W) from image 0 to image 1, in pixels.
        backward: Flow from image 1 to image 0; outside the image it counts as zero.
    """
    return (forward + warp(backward, forward)).norm(dim=1)


def find_occlusion(
    forward: torch.Tensor, backward: torch.Tensor, alpha: float = 0.01, beta: float = 0.5
) -> torch.Tensor:
    """True, (B, H, W), where a pixel of image 0 is hidden in image 1, or has left it. For image 1, swap the flows.

    A pixel counts as hidden where `consistency_error` exceeds `alpha` times the lengths of both flows plus `beta`
    pixels.
    """
    tolerance = alpha * (forward.norm(dim=1) + backward.norm(dim=1)) + beta
    return consistency_error(forward, backward) > tolerance
