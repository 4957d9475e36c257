"""Changes to the estimate of clean latents x_0 (B, F, C, h, w) between the steps of a video's denoising.

The first frame, which is given, stays as it is estimated.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from utils.commands.settings import check

DETAILS = 0.05  # noise level below which only details are left to change
Adjustment = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # (x_0, sigma) -> x_0


def adjust_frames(
    temporal_smoothing: float = 0.0, motion_scale: float = 1.0, still_threshold: float = 0.0
) -> Adjustment | None:
    """All changes as one, or None where there is nothing to change.

    Raises:
        ValueError: temporal_smoothing is not in [0, 1], or motion_scale negative or not finite.
    """
    check("temporal_smoothing", temporal_smoothing, low=0, high=1)
    check("motion_scale", motion_scale, low=0)
    if temporal_smoothing == 0 and motion_scale == 1 and still_threshold == 0:
        return None

    def adjust(x_0: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        x_0 = smooth_frames(scale_motion(x_0, sigma, motion_scale), temporal_smoothing)
        return hold_still(x_0, still_threshold) if still_threshold > 0 and sigma < DETAILS else x_0

    return adjust


def smooth_frames(x_0: torch.Tensor, amount: float) -> torch.Tensor:
    """Low-pass over frames with the weights (a/4, 1 - a/2, a/4), a = amount; the last frame counts as its own
    successor.

    What stands still stays; flicker that changes sign from frame to frame is scaled by 1 - a, and a period of P
    frames by 1 - a sin²(π / P).
    """
    frames = x_0[:, 1:]
    after = torch.cat([x_0[:, 2:], x_0[:, -1:]], dim=1)[:, : frames.shape[1]]
    smooth = (1 - amount / 2) * frames + amount / 4 * (x_0[:, :-1] + after)
    return torch.cat([x_0[:, :1], smooth], dim=1)


def scale_motion(x_0: torch.Tensor, sigma: torch.Tensor, scale: float) -> torch.Tensor:
    """Scale how far each frame is from the first, by scale^w with w = sigma² / (sigma² + 1).

    Motion is decided while the noise is high, where w is near 1; at low noise, where scaling would only fade contours
    in or out, w is near 0 and the network keeps what the coarse estimate has.
    """
    sigma = sigma.to(x_0)
    factor = scale ** (sigma.square() / (sigma.square() + 1))
    return x_0[:, :1] + factor * (x_0 - x_0[:, :1])


def hold_still(x_0: torch.Tensor, threshold: float) -> torch.Tensor:
    """Give places that stand still what the first frame has there, so that they do not flicker.

    A place stands still where neither it nor one of its 8 neighbours is ever farther from the first frame than
    `threshold`: the Euclidean distance over the channels, of latents with a deviation of about 1. From there to twice
    that, changes come back in proportion.
    """
    change = x_0 - x_0[:, :1]
    farthest = change.norm(dim=2).amax(dim=1, keepdim=True)
    farthest = F.max_pool2d(farthest, 3, stride=1, padding=1)
    kept = (farthest / threshold - 1).clamp(0, 1)
    return x_0[:, :1] + kept[:, :, None] * change
