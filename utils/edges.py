"""Edges of an image, the second condition beside depth."""

import cv2
import numpy as np
import torch

LOW, HIGH = 100, 200  # thresholds of hysteresis on the gradient of grey values in [0, 255]


def canny_edges(pixels: torch.Tensor) -> torch.Tensor:
    """Canny edges (Canny 1986, by OpenCV) of an image.

    Args:
        pixels: Image (3, H, W) in [-1, 1].

    Returns:
        (3, H, W), three equal channels: 1 on an edge, -1 elsewhere.
    """
    if pixels.ndim != 3 or pixels.shape[0] != 3:
        raise ValueError(f"Edges are made of an image (3, H, W), not of {tuple(pixels.shape)}.")
    image = ((pixels.permute(1, 2, 0).float().cpu().numpy() + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
    edges = cv2.Canny(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), LOW, HIGH)
    return torch.from_numpy(edges).to(pixels).div(127.5).sub(1).expand(3, -1, -1).clone()
