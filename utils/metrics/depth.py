"""Errors of depth that is known up to an affine map of its disparity.

Networks of normalised disparity know neither scale nor shift. Both are fitted to the truth by least squares *in
disparity* (Ranftl et al., MiDaS, arXiv 1907.01341), over the known pixels of one image; then depth = 1 / disparity is
compared:

    AbsRel = mean |depth - truth| / truth
    delta1 = share of pixels with max(depth / truth, truth / depth) < 1.25
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from utils.depth import metres_to_disparity, normalize_disparity
from utils.latents import reconstruct

FARTHEST = 2.0  # times the farthest truth that a fitted depth reaches at most, since disparity may fall below 0


@dataclass(frozen=True)
class DepthErrors:
    """Errors of one image: `abs_rel`, 0 is perfect; `delta1`, 1 is perfect."""

    abs_rel: float
    delta1: float


def align_disparity(prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
    """a * prediction + b with the a and b that minimise the squared error to `target`, values (N,)."""
    columns = np.stack([prediction, np.ones_like(prediction)], axis=1).astype(np.float64)
    solution, *_ = np.linalg.lstsq(columns, target.astype(np.float64), rcond=None)
    return columns @ solution


def depth_errors(disparity: np.ndarray, metres: np.ndarray) -> DepthErrors:
    """Errors of one image.

    Args:
        disparity: Prediction (H, W): any affine map of 1 / depth, larger is nearer.
        metres: Truth (H, W), 0 where unknown.

    Raises:
        ValueError: The shapes differ, or no pixel is known.
    """
    if disparity.shape != metres.shape:
        raise ValueError(f"The depths to compare have the shapes {disparity.shape} and {metres.shape}.")
    known = metres > 0
    if not known.any():
        raise ValueError("The true depth has no known pixel: all are 0.")
    truth = metres[known].astype(np.float64)
    aligned = align_disparity(disparity[known], 1 / truth)
    depth = 1 / np.maximum(aligned, 1 / (FARTHEST * truth.max()))
    ratio = np.maximum(depth / truth, truth / depth)
    return DepthErrors(float(np.mean(np.abs(depth - truth) / truth)), float(np.mean(ratio < 1.25)))


def disparity_image(metres: np.ndarray) -> torch.Tensor:
    """Metres (H, W) as an image for the networks: normalised disparity, float32 (3, H, W) in [-1, 1]."""
    return torch.from_numpy(normalize_disparity(metres_to_disparity(metres))).float().expand(3, -1, -1)


def autoencoder_floor(vae: nn.Module, metres: np.ndarray) -> tuple[list[DepthErrors], np.ndarray]:
    """Errors of the autoencoder alone: the truth as an image, encoded and decoded.

    metres: (B, H, W). Returns the errors of each image and the reconstructed disparity, (B, H, W) in [-1, 1].
    """
    images = torch.stack([disparity_image(one) for one in metres])
    returned = reconstruct(vae, images).mean(dim=1).numpy()
    return [depth_errors(d, m) for d, m in zip(returned, metres, strict=True)], returned
