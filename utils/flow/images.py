"""Flow as images: those that a VAE encodes and that are read back, and those that people look at."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch

# Middlebury's wheel (Baker et al., IJCV 2011): steps from one colour to the next, red to red.
WHEEL = (
    (15, (255, 0, 0), (255, 255, 0)),
    (6, (255, 255, 0), (0, 255, 0)),
    (4, (0, 255, 0), (0, 255, 255)),
    (11, (0, 255, 255), (0, 0, 255)),
    (13, (0, 0, 255), (255, 0, 255)),
    (6, (255, 0, 255), (255, 0, 0)),
)


@dataclass(frozen=True)
class FlowEncoding:
    """Flow as an image in [-1, 1]: red holds x, green y, blue the mean of both.

    A component f becomes sign(f) |f / max_flow|^power. A power below 1 spends the range on slow motion, of which there
    is most. Blue makes what stands still gray and keeps colours pale, which autoencoders of images bring back better
    (docs/motion.md); `decode` does not read it.

    Attributes:
        max_flow: Pixels that the range holds; faster motion is clipped.
        power: Exponent; 1 is linear.
    """

    max_flow: float = 16.0
    power: float = 0.5

    def __post_init__(self):
        if self.max_flow <= 0 or self.power <= 0:
            raise ValueError(f"max_flow={self.max_flow} and power={self.power} have to be positive.")

    def encode(self, flow: torch.Tensor) -> torch.Tensor:
        """Image (…, 3, H, W) in [-1, 1] of flow (…, 2, H, W) in pixels."""
        share = (flow / self.max_flow).clamp(-1, 1)
        red_green = share.sign() * share.abs() ** self.power
        return torch.cat([red_green, red_green.mean(dim=-3, keepdim=True)], dim=-3)

    def decode(self, image: torch.Tensor) -> torch.Tensor:
        """Flow (…, 2, H, W) in pixels of an image (…, 3, H, W); values outside [-1, 1] are clipped."""
        share = image[..., :2, :, :].clamp(-1, 1)
        return share.sign() * share.abs() ** (1 / self.power) * self.max_flow


def color_flow(flow: np.ndarray | torch.Tensor, max_flow: float | None = None) -> np.ndarray:
    """Middlebury colours, uint8 (H, W, 3), of flow (2, H, W): hue is direction, white standstill, black unknown (nan).

    Args:
        flow: Pixels, x then y.
        max_flow: Length that gets full colours; longer vectors are darker (default: that of the longest).
    """
    x, y = np.asarray(flow, np.float32)
    known = np.isfinite(x) & np.isfinite(y)
    x, y = np.where(known, x, 0), np.where(known, y, 0)
    length = np.hypot(x, y)
    length = length / max(max_flow or length.max(), 1e-6)
    wheel = _wheel()
    place = (np.arctan2(-y, -x) / np.pi + 1) / 2 * (len(wheel) - 1)
    lower = np.floor(place).astype(int)
    share = (place - lower)[..., None]
    color = (1 - share) * wheel[lower] + share * wheel[(lower + 1) % len(wheel)]
    pale = 1 - np.minimum(length, 1)[..., None] * (1 - color)
    color = np.where(length[..., None] <= 1, pale, 0.75 * color)
    return np.rint(255 * color * known[..., None]).astype(np.uint8)


def draw_arrows(image: np.ndarray, flow: np.ndarray | torch.Tensor, step: int = 16) -> np.ndarray:
    """A copy of the image, uint8 (H, W, 3), with arrows of the flow (2, H, W) every `step` pixels."""
    canvas, vectors = np.ascontiguousarray(image).copy(), np.asarray(flow, np.float32)
    for y in range(step // 2, canvas.shape[0], step):
        for x in range(step // 2, canvas.shape[1], step):
            vector = vectors[:, y, x]
            if np.isfinite(vector).all():
                end = (round(x + float(vector[0])), round(y + float(vector[1])))
                cv2.arrowedLine(canvas, (x, y), end, (255, 230, 0), 1, cv2.LINE_AA, tipLength=0.3)
    return canvas


def _wheel() -> np.ndarray:
    """Colours (55, 3) in [0, 1]."""
    parts = [np.linspace(start, end, steps, endpoint=False) for steps, start, end in WHEEL]
    return np.concatenate(parts) / 255
