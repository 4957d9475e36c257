"""Whether an image looks as the procedural world does: flat surfaces of its few named colours.

Light and texture of the world scale a colour as a whole, so that the proportions of red, green and blue stay those of
the palette; photographs have others, and detail everywhere. Renderings at 64 pixels, PNG or JPEG, have at least 0.57
and 0.65 of their pixels as the two limits ask, images and frames sampled by the small models 0.65 and 0.73; of 22
photographs none reaches both.
"""

import numpy as np
import torch
from torch.nn import functional

from utils.scenes.world import COLORS, FLOORS, WALLS

SIDE = 64  # pixels of the shorter side at which images are compared
GAMMA = 1.4  # as rendered
NEAR, ROUGH_NEAR, SMOOTH = 0.02, 0.05, 0.06  # of proportions, and of second differences of values in [0, 1]
NEAR_SHARE, SMOOTH_SHARE = 0.5, 0.62  # of the pixels


def looks_rendered(pixels: torch.Tensor) -> bool:
    """Whether pixels (3, H, W) in [-1, 1] may be of the procedural world, or of a model that has learned it."""
    scale = SIDE / min(pixels.shape[-2:])
    size = [max(3, round(side * min(scale, 1))) for side in pixels.shape[-2:]]
    values = functional.interpolate(pixels[None].float().cpu(), size, mode="bilinear", antialias=True)[0]
    values = values.add(1).div(2).clamp(0, 1).permute(1, 2, 0).numpy()
    distance = palette_distance(values)[1:-1, 1:-1]
    smooth = second_difference(values) < SMOOTH
    near = np.mean(distance < NEAR) >= NEAR_SHARE
    return bool(near and np.mean(smooth & (distance < ROUGH_NEAR)) >= SMOOTH_SHARE)


def palette_distance(values: np.ndarray) -> np.ndarray:
    """(H, W): distance of the proportions of red, green, blue in (H, W, 3) from those of the nearest named colour."""
    palette = np.array([*COLORS.values(), *FLOORS.values(), *WALLS.values()])
    linear = np.maximum(values, 1e-6) ** GAMMA
    shares, named = (colors / colors.sum(axis=-1, keepdims=True) for colors in (linear, palette))
    return np.abs(shares[..., None, :] - named).max(axis=-1).min(axis=-1)


def second_difference(values: np.ndarray) -> np.ndarray:
    """(H - 2, W - 2): the largest of the three channels' absolute discrete Laplacians."""
    middle, rows, columns = (
        values[1:-1, 1:-1],
        values[:-2, 1:-1] + values[2:, 1:-1],
        values[1:-1, :-2] + values[1:-1, 2:],
    )
    return np.abs(4 * middle - rows - columns).max(axis=-1)
