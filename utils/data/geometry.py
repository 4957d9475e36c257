"""Resize, crop and flip at random, applied alike to an image and everything aligned with it."""

import random
from dataclasses import dataclass

import torch
from torch.nn import functional


def draw_crop(center_crop: bool, random_flip: bool) -> tuple[float, float, bool]:
    """Left, top and flip: a random position unless `center_crop`, and a random flip if `random_flip`."""
    left, top = (0.5, 0.5) if center_crop else (random.random(), random.random())
    return left, top, random_flip and random.random() < 0.5


@dataclass(frozen=True)
class Geometry:
    """A square cropped from an image whose shorter side is resized to that of the square.

    Attributes:
        resolution: Side of the square in pixels.
        left, top: Position of the square within the resized image, 0 to 1; 0.5 is the centre.
        flip: Mirror left and right.
    """

    resolution: int
    left: float = 0.5
    top: float = 0.5
    flip: bool = False

    @classmethod
    def draw(cls, resolution: int, center_crop: bool, random_flip: bool) -> "Geometry":
        """Draw a position unless `center_crop`, and a flip if `random_flip`, from `random`."""
        return cls(resolution, *draw_crop(center_crop, random_flip))

    def apply(self, image: torch.Tensor) -> torch.Tensor:
        """Crop (C, H, W) to (C, resolution, resolution), bilinear with antialiasing; unchanged at that size."""
        H, W = image.shape[-2:]
        side, short = self.resolution, min(H, W)
        if short != side:
            size = (max(side, round(H * side / short)), max(side, round(W * side / short)))
            image = functional.interpolate(image[None], size, mode="bilinear", antialias=True)[0]
        H, W = image.shape[-2:]
        y, x = round(self.top * (H - side)), round(self.left * (W - side))
        image = image[..., y : y + side, x : x + side]
        return image.flip(-1) if self.flip else image.contiguous()
