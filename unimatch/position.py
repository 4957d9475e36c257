"""Sine encoding of positions in two dimensions, as in DETR (arXiv 2005.12872, appendix A)."""

import functools
import math

import torch

TEMPERATURE = 10_000
# The published weights were trained with this in the denominator of y / height.
EPSILON = 1e-6


@functools.lru_cache(maxsize=16)
@torch.inference_mode(False)
def sine_position(channels: int, height: int, width: int, device: torch.device) -> torch.Tensor:
    """Encoding (channels, height, width), float32: y in the first half, x in the second, sines and cosines by turns.

    The result is cached and shared: never write into it.
    """
    y = _encode(channels // 2, height, device)[:, :, None].expand(-1, -1, width)
    x = _encode(channels // 2, width, device)[:, None, :].expand(-1, height, -1)
    return torch.cat([y, x])


def _encode(channels: int, length: int, device: torch.device) -> torch.Tensor:
    """(channels, length): positions 1 to `length`, scaled to at most 2π, at falling frequencies."""
    position = torch.arange(1, length + 1, dtype=torch.float32, device=device)
    position = position / (length + EPSILON) * (2 * math.pi)
    exponent = 2 * torch.arange(channels // 2, dtype=torch.float32, device=device) / channels
    angle = position / TEMPERATURE ** exponent[:, None]  # (channels / 2, length)
    return torch.stack([angle.sin(), angle.cos()], dim=1).flatten(0, 1)
