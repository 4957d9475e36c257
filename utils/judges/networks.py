"""Two small networks that estimate the depth and the objects of an image of the procedural world.

Pixels (B, 3, H, W) in [-1, 1], H and W multiples of 8; made for 64x64.
"""

import torch
import torch.nn.functional as F
from torch import nn

from utils.scenes import COLORS, SHAPES

PEAK = 0.3  # an object is found where its probability is a local maximum and at least this
MIN_GAP = 2  # columns (of 2 pixels) that lie between two objects at least


class Block(nn.Module):
    """Two residual convolutions."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, channels), nn.GroupNorm(8, channels)
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, h):
        h = h + self.conv1(F.silu(self.norm1(h)))
        return h + self.conv2(F.silu(self.norm2(h)))


class Trunk(nn.Module):
    """Pixels (B, 3, H, W) -> features (B, C0, H/2, W/2) of a small field and (B, C1, H/4, W/4) of the whole image."""

    def __init__(self, channels: tuple[int, int, int]):
        super().__init__()
        c0, c1, c2 = channels
        self.stem = nn.Conv2d(3, c0, 4, stride=2, padding=1)
        self.fine = Block(c0)
        self.down1, self.down2 = nn.Conv2d(c0, c1, 2, stride=2), nn.Conv2d(c1, c2, 2, stride=2)
        self.middle, self.coarse, self.merged = Block(c1), Block(c2), Block(c1)
        self.up = nn.Conv2d(c2, c1, 1)

    def forward(self, pixels):
        fine = self.fine(self.stem(pixels))  # (B, C0, H/2, W/2)
        middle = self.middle(self.down1(fine))  # (B, C1, H/4, W/4)
        coarse = self.coarse(self.down2(middle))  # (B, C2, H/8, W/8)
        return fine, self.merged(middle + F.interpolate(self.up(coarse), scale_factor=2.0))


class DepthJudge(nn.Module):
    """Pixels (B, 3, H, W) -> disparity (B, H, W), about [-1, 1], nearest 1: compare it up to an affine map."""

    def __init__(self, channels: tuple[int, int, int] = (24, 48, 96)):
        super().__init__()
        self.config = {"channels": list(channels)}
        c0, c1, _ = channels
        self.trunk = Trunk(channels)
        self.up = nn.Conv2d(c1, c0, 1)
        self.fine = Block(c0)
        self.to_pixels = nn.Sequential(nn.SiLU(), nn.Conv2d(c0, 64, 1), nn.PixelShuffle(2))
        # The image once more: borders of objects are sharper than the features.
        self.out = nn.Sequential(nn.Conv2d(16 + 3, 16, 3, padding=1), nn.SiLU(), nn.Conv2d(16, 1, 3, padding=1))

    def forward(self, pixels):
        fine, merged = self.trunk(pixels)
        fine = self.fine(fine + F.interpolate(self.up(merged), scale_factor=2.0))
        return self.out(torch.cat([self.to_pixels(fine), pixels], dim=1))[:, 0]


class AttributeJudge(nn.Module):
    """Pixels (B, 3, H, W) -> for each of W/2 columns, whether an object's centre is there, its colour and shape.

    Objects of a scene are apart in the image from left to right, so that a column holds one at most, and the order of
    columns is the order of the caption.
    """

    def __init__(self, channels: tuple[int, int, int] = (16, 48, 96)):
        super().__init__()
        self.config = {"channels": list(channels)}
        width = channels[1]
        self.trunk = Trunk(channels)
        self.rows = nn.Conv2d(width, width, 1)
        self.values = nn.Conv2d(width, 2 * width, 1)
        self.context = nn.Conv1d(2 * width, 2 * width, 3, padding=1)
        self.head = nn.Conv1d(2 * width, 2 * (1 + len(COLORS) + len(SHAPES)), 3, padding=1)

    def forward(self, pixels) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits: an object's middle (B, W/2), its colour (B, 8, W/2), its shape (B, 4, W/2)."""
        merged = F.silu(self.trunk(pixels)[1])
        attention = self.rows(merged).softmax(dim=2).repeat(1, 2, 1, 1)  # each channel attends to rows of its own
        columns = (attention * self.values(merged)).sum(dim=2)  # (B, 2 C1, W/4)
        columns = columns + F.silu(self.context(columns))
        B, C, W = (logits := self.head(columns)).shape
        logits = logits.view(B, 2, C // 2, W).permute(0, 2, 3, 1).reshape(B, C // 2, 2 * W)  # two columns each
        return logits[:, 0], logits[:, 1 : 1 + len(COLORS)], logits[:, 1 + len(COLORS) :]

    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embeddings (B, C1) of images (B, 3, H, W), means over places, to compare images by."""
        return F.silu(self.trunk(pixels)[1]).mean(dim=(2, 3))

    @torch.no_grad()
    def read(self, pixels: torch.Tensor) -> list[list[tuple[str, str]]]:
        """(colour, shape) of the objects found in each image, from left to right."""
        middles, colors, shapes = self(pixels)
        probability = middles.float().sigmoid()
        around = F.max_pool1d(probability[:, None], 2 * MIN_GAP + 1, 1, MIN_GAP)[:, 0]
        peaks = (probability == around) & (probability > PEAK)
        peaks[:, 1:] &= ~peaks[:, :-1]  # equal neighbours are one object
        names = list(COLORS)
        return [
            [(names[colors[b, :, w].argmax()], SHAPES[shapes[b, :, w].argmax()]) for w in peaks[b].nonzero()[:, 0]]
            for b in range(len(pixels))
        ]
