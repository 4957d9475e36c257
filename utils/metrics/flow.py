"""Errors of optical flow. Flow is (…, 2, H, W) in pixels, x then y."""

import cv2
import numpy as np
import torch

from utils.flow.warp import leaves_image, warp

LEAST_EDGE = 0.25  # pixels, change of the flow from one pixel to the next


def end_point_error(estimate: torch.Tensor, truth: torch.Tensor, mask: torch.Tensor | None = None) -> float:
    """Mean length of the difference in pixels, over known truth (finite) and `mask` (…, H, W).

    Raises:
        ValueError: Shapes differ, or no pixel is left.
    """
    error, _ = _errors(estimate, truth, mask)
    return error.mean().item()


def outliers(estimate: torch.Tensor, truth: torch.Tensor, mask: torch.Tensor | None = None) -> float:
    """Share of pixels off by more than 3 px and 5% of the true length, KITTI's Fl (Menze and Geiger, CVPR 2015).

    Where the truth is known and the estimate is nan, it is an outlier.
    """
    error, length = _errors(estimate, truth, mask)
    inliers = (error <= 3) | (error <= 0.05 * length)
    return 1 - inliers.float().mean().item()


def warping_error(video: torch.Tensor, flow: torch.Tensor, occluded: torch.Tensor | None = None) -> float:
    """Mean squared difference of frames and the next ones warped to them, if visible (Lai et al., ECCV 2018, eq. 11).

    Args:
        video: (F, C, H, W); the error is in the square of its unit.
        flow: (F - 1, 2, H, W), from frame t to t + 1.
        occluded: bool (F - 1, H, W), pixels to leave out; by default those that leave the image.
    """
    if len(flow) != len(video) - 1:
        raise ValueError(f"{len(video)} frames have {len(video) - 1} flows between them, not {len(flow)}.")
    seen = ~(leaves_image(flow) if occluded is None else occluded)
    error = (warp(video[1:], flow) - video[:-1]).square().mean(1)
    return _kept(error, seen).mean().item()


def edge_distance(flow: torch.Tensor, labels: np.ndarray) -> tuple[float, float]:
    """How far the edges of flow are from the outlines of objects, weighed by the flow's gradient.

    A thing that moves as a whole has all edges of its flow at its outline. Changes below `LEAST_EDGE` are none: they
    are noise of a decoder, or those of a camera.

    Args:
        flow: (2, H, W).
        labels: (H, W), the number of the object, below 0 where there is none.

    Returns:
        The sum over the edges of |gradient of the flow| x distance of the nearest outline in pixels, and that of
        |gradient|. Their quotient is the mean distance; both are 0 without an object or edges.
    """
    outline = np.zeros(labels.shape, bool)
    for seen, marked in ((labels, outline), (labels.T, outline.T)):
        change = (seen[1:] != seen[:-1]) & (np.maximum(seen[1:], seen[:-1]) >= 0)
        marked[1:] |= change
        marked[:-1] |= change
    if not outline.any():
        return 0.0, 0.0
    distance = torch.from_numpy(cv2.distanceTransform((~outline).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE))
    down, right = (torch.diff(flow, dim=dim, append=flow.narrow(dim, -1, 1)) for dim in (-2, -1))
    gradient = (down.square() + right.square()).sum(0).sqrt()
    gradient[gradient < LEAST_EDGE] = 0
    return float((gradient * distance).sum()), float(gradient.sum())


def _errors(estimate, truth, mask) -> tuple[torch.Tensor, torch.Tensor]:
    """Errors and true lengths (N,) of the pixels that count."""
    if estimate.shape != truth.shape or truth.ndim < 3 or truth.shape[-3] != 2:
        raise ValueError(f"Flows have one shape (…, 2, H, W), not {tuple(estimate.shape)} and {tuple(truth.shape)}.")
    known = truth.isfinite().all(-3)
    seen = known if mask is None else known & mask
    return _kept((estimate - truth).norm(dim=-3), seen), _kept(truth.norm(dim=-3), seen)


def _kept(values: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    if not seen.any():
        raise ValueError("No pixel is left to measure: all are masked or unknown.")
    return values[seen]
