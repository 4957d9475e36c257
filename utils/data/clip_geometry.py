"""Resize, crop and flip of a clip, and of the flow and the tracks that belong to it: their vectors change too."""

from dataclasses import dataclass

import torch

from utils.data.geometry import draw_crop
from utils.flow import flip_flow, resize_flow
from utils.images import resize_pixels


@dataclass(frozen=True)
class ClipGeometry:
    """A rectangle cropped from frames that are resized to just cover it.

    Attributes:
        height, width: Of the rectangle in pixels.
        left, top: Position of the crop within the resized frame, 0 to 1; 0.5 is the centre.
        flip: Mirror left and right.
    """

    height: int
    width: int
    left: float = 0.5
    top: float = 0.5
    flip: bool = False

    @classmethod
    def draw(cls, height: int, width: int, center_crop: bool, random_flip: bool) -> "ClipGeometry":
        """Draw a position unless `center_crop`, and a flip if `random_flip`, from `random`."""
        return cls(height, width, *draw_crop(center_crop, random_flip))

    def apply(self, frames: torch.Tensor, nearest: bool = False) -> torch.Tensor:
        """Pixels (F, C, H, W) in [-1, 1] to (F, C, height, width); unchanged at that size.

        nearest: Whether each pixel takes the value of the nearest one, as segmentations need; otherwise bilinear with
        antialiasing.
        """
        frames = resize_pixels(frames, self.covering(*frames.shape[-2:]), nearest)
        frames = self._crop(frames)
        return frames.flip(-1) if self.flip else frames.contiguous()

    def apply_flow(self, flow: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """Flow (F, 2, h, w) in pixels, of any size, as that of frames (height, width) after `apply`."""
        flow = self._crop(resize_flow(flow, self.covering(height, width)))
        return flip_flow(flow) if self.flip else flow.contiguous()

    def apply_tracks(self, tracks: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """Points (F, N, 2), x then y, counted from the middle of the upper left pixel of frames (height, width)."""
        H, W = self.covering(height, width)
        y, x = self._corner(H, W)
        scale, corner = torch.tensor([W / width, H / height]), torch.tensor([x, y])
        points = tracks * scale + (0.5 * scale - 0.5 - corner)
        if self.flip:
            points = torch.stack([self.width - 1 - points[..., 0], points[..., 1]], dim=-1)
        return points

    def covering(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of a frame after resizing."""
        scale = max(self.height / height, self.width / width)
        return max(self.height, round(height * scale)), max(self.width, round(width * scale))

    def _crop(self, frames: torch.Tensor) -> torch.Tensor:
        y, x = self._corner(*frames.shape[-2:])
        return frames[..., y : y + self.height, x : x + self.width]

    def _corner(self, height: int, width: int) -> tuple[int, int]:
        return round(self.top * (height - self.height)), round(self.left * (width - self.width))
