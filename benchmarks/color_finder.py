"""Find the solids of a scene in a video of it by their colours alone, so that no learned tracker judges.

The renderer's light is white: shading and texture scale a surface's linear colour and leave its chromaticity, the
shares of red and green in the sum. A pixel belongs to the nearest chromaticity of all things in the scene, floor and
wall included.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from utils.scenes.world import COLORS, FLOORS, WALLS

GAMMA = 1.4  # of the renderer
DARK = 0.2  # sum of linear colours below which a pixel counts as colourless
SPECK = 0.25  # share of the largest spot of a colour; smaller spots are left out
SEAM_SIDE = 42  # pixels of an image's side for each pixel to either side that a spot is wider than a seam
LOST = 0.2  # share of an object's area in the first frame; below it the object is lost


@dataclass(frozen=True)
class Found:
    """Where K objects are in the frames of a video, and how large.

    Attributes:
        places: float32 (F, K, 2), centroids in pixels, x then y; nan where there is nothing.
        areas: float32 (F, K), pixels.
    """

    places: torch.Tensor
    areas: torch.Tensor

    def lost(self, first_areas: torch.Tensor) -> torch.Tensor:
        """bool (F, K), of objects with areas (K,) in the first frame."""
        return (self.areas < LOST * first_areas) | self.places.isnan().any(dim=-1)


def find_objects(video: torch.Tensor, colors: Sequence[str], floor: str, wall: str) -> Found:
    """Centroids of the solids of K different colours; arguments as of `find_masks`.

    Spots of a colour count together: an object that appears twice is found between.
    """
    found = [[_centroid(mask) for mask in row] for row in find_masks(video, colors, floor, wall).numpy()]
    places = torch.tensor([[place for place, _ in row] for row in found], dtype=torch.float32)
    return Found(places, torch.tensor([[area for _, area in row] for row in found], dtype=torch.float32))


def find_masks(video: torch.Tensor, colors: Sequence[str], floor: str, wall: str) -> torch.Tensor:
    """Masks bool (F, K, H, W) of the solids of K different colours, without spots much smaller than the largest.

    Args:
        video: (F, 3, H, W) in [-1, 1].
        colors: Keys of `COLORS`.
        floor, wall: Keys of `FLOORS` and `WALLS`.
    """
    references = torch.tensor([*(COLORS[color] for color in colors), FLOORS[floor], WALLS[wall]])
    linear = ((video.detach().float().cpu().clamp(-1, 1) + 1) / 2) ** GAMMA
    difference = chromaticity(linear, dim=1)[:, None] - chromaticity(references, dim=1)[None, :, :, None, None]
    nearest = difference.norm(dim=2).argmin(dim=1).masked_fill(linear.sum(dim=1) < DARK, -1)  # (F, H, W)
    masks = [[_spots((labels == k).numpy()) for k in range(len(colors))] for labels in nearest]
    return torch.from_numpy(np.array(masks))


def chromaticity(linear: torch.Tensor, dim: int) -> torch.Tensor:
    """Shares of red and green, of linear colours with 3 values in a dimension."""
    return linear.narrow(dim, 0, 2) / linear.sum(dim=dim, keepdim=True).clamp(min=1e-4)


def _spots(mask: np.ndarray) -> np.ndarray:
    """The spots of a mask (H, W) that are large enough, after an opening.

    It takes away seams: between a purple thing and a beige wall a blurred image is pink.
    """
    width = 2 * (min(mask.shape) // SEAM_SIDE) + 1
    opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((width, width), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    return np.isin(labels, 1 + np.flatnonzero(areas >= SPECK * areas.max(initial=0)))


def _centroid(mask: np.ndarray) -> tuple[tuple[float, float], float]:
    """Centroid, x then y, and area of a mask (H, W)."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return (np.nan, np.nan), 0.0
    return (float(columns.mean()), float(rows.mean())), float(len(rows))
