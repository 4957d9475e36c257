"""Where an edit has to change its frames, found by the model itself and brought to the edges of the image.

The predictions for the source prompt and for the new one differ where the images of the two would (DiffEdit, arXiv
2210.11427). That map is as coarse as the latents; GrabCut (Rother et al., SIGGRAPH 2004) takes it to the edges of
colours.
"""

from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch.nn import functional

from utils.video import to_frames

LEVELS = (0.4, 0.5, 0.6)  # shares of the noise at which predictions are compared
DRAWS = 3  # of noise at each level
PEAK = 0.98  # quantile of a frame's map that counts as 1; a frame of little difference is not stretched
FLATTEST = 0.5  # share of the largest peak of all frames below which a frame's peak is not taken for 1
SURE = 2.0  # thresholds above which a pixel is surely changed
ROUNDS = 4  # iterations of GrabCut
REACH = 32  # pixels of the shorter side for each pixel that a mask is widened by, for mixed colours at edges

Predict = Callable[[torch.Tensor, float], torch.Tensor]


def difference_map(latents: torch.Tensor, differ: Predict, generator: torch.Generator) -> torch.Tensor:
    """How much two predictions differ, (K, 1, h, w), 0 to 1 with 1 where they differ most in a frame.

    Args:
        latents: Clean, (K, C, h, w).
        differ: From noise (1, C, h, w), shared by the frames, and a share of the noise to the difference (K, C, h, w).
        generator: Of the noise.
    """
    total = torch.zeros_like(latents[:, :1])
    for level in LEVELS:
        for _ in range(DRAWS):
            noise = torch.randn(latents[:1].shape, generator=generator).to(latents)
            total += differ(noise, level).abs().mean(dim=1, keepdim=True)
    peaks = total.float().flatten(1).quantile(PEAK, dim=1)
    peaks = peaks.clamp(min=FLATTEST * peaks.max()).clamp(min=torch.finfo(torch.float32).tiny)
    return (total.float() / peaks.view(-1, 1, 1, 1)).clamp(0, 1)


def snap_masks(frames: torch.Tensor, change: torch.Tensor, threshold: float) -> torch.Tensor:
    """Masks (K, 1, H, W) of 0 and 1 that follow the edges of frames (K, 3, H, W) in [-1, 1].

    Args:
        change: Map of `difference_map`.
        threshold: Of the map, above which a pixel is probably changed.
    """
    size = frames.shape[-2:]
    maps = functional.interpolate(change, size, mode="bicubic", antialias=False).clamp(0, 1)
    shown = to_frames(frames)
    masks = [_snap(frame, one[0], threshold) for frame, one in zip(shown, maps.cpu().numpy(), strict=True)]
    return torch.from_numpy(np.stack(masks))[:, None].to(frames)


def _snap(frame: np.ndarray, change: np.ndarray, threshold: float) -> np.ndarray:
    """Float32 (H, W) of 0 and 1."""
    labels = np.where(change > threshold, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[change > min(SURE * threshold, 0.9)] = cv2.GC_FGD
    labels[change < threshold / 2] = cv2.GC_BGD
    found = {*np.unique(labels).tolist()}
    if found & {cv2.GC_FGD, cv2.GC_PR_FGD} and found & {cv2.GC_BGD, cv2.GC_PR_BGD}:
        cv2.setRNGSeed(0)
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(np.ascontiguousarray(frame[..., ::-1]), labels, None, *models, ROUNDS, cv2.GC_INIT_WITH_MASK)
    return np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)


def widen(masks: torch.Tensor) -> torch.Tensor:
    """Masks (K, 1, H, W) a little larger, so that they hold the mixed colours at the edges of things."""
    reach = max(1, min(masks.shape[-2:]) // REACH // 2)
    return functional.max_pool2d(masks, 2 * reach + 1, 1, reach)


def soften(masks: torch.Tensor) -> torch.Tensor:
    """Weights (K, 1, H, W) that rise to 1 inside of masks and are 0 outside of them."""
    reach = max(1, min(masks.shape[-2:]) // REACH // 2)
    return functional.avg_pool2d(masks, 2 * reach + 1, 1, reach, count_include_pad=False) * masks
