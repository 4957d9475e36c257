"""Guidance of a video's predictions."""

import torch


def guidance_over_frames(num_frames: int, minimum: float = 1.0, maximum: float = 3.0) -> torch.Tensor:
    """Guidance scales (1, F, 1, 1, 1), growing linearly from the first frame, which is known, to the last."""
    return torch.linspace(minimum, maximum, num_frames)[None, :, None, None, None]


def guide(predictions: torch.Tensor, scale: torch.Tensor | float) -> torch.Tensor:
    """Classifier-free guidance of predictions (2B, F, C, h, w), ordered as by `Condition.with_unconditional`, to (B, F, C, h, w)."""
    without, given = predictions.chunk(2)
    return without + scale * (given - without)
