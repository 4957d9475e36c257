"""Pixel coordinates: the grid, its neighbourhoods, and warping along a flow. Coordinates are float32, x before y."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F


def pixel_grid(height: int, width: int, device: torch.device) -> torch.Tensor:
    """(2, height, width): the x and the y of every pixel."""
    y = torch.arange(height, dtype=torch.float32, device=device)
    x = torch.arange(width, dtype=torch.float32, device=device)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"))


def offsets(radius: int, device: torch.device) -> torch.Tensor:
    """((2·radius + 1)², 2): the steps to the pixels of a neighbourhood, row by row."""
    grid = pixel_grid(2 * radius + 1, 2 * radius + 1, device) - radius
    return grid.flatten(1).T


def neighbours(x: torch.Tensor, radius: int) -> Iterator[torch.Tensor]:
    """A map (B, C, H, W) as seen from each of `offsets(radius)`, of the same shape: zero outside."""
    H, W = x.shape[-2:]
    padded = F.pad(x, [radius] * 4)
    for dy in range(2 * radius + 1):
        for dx in range(2 * radius + 1):
            yield padded[..., dy : dy + H, dx : dx + W]


def warp(x: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """Fetch `x` (B, C, H, W) from where `flow` (B, 2, H, W), in pixels, points: bilinear, zero outside."""
    H, W = x.shape[-2:]
    points = pixel_grid(H, W, x.device) + flow.float()
    scale = points.new_tensor([max(W - 1, 1), max(H - 1, 1)]).view(2, 1, 1)
    points = (2 * points / scale - 1).permute(0, 2, 3, 1)  # (B, H, W, 2) in [-1, 1]
    return F.grid_sample(x.float(), points, mode="bilinear", padding_mode="zeros", align_corners=True).to(x.dtype)
