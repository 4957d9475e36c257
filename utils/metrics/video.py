"""Consistency of the frames of a video."""

from collections.abc import Callable

import torch
from torch.nn import functional

Encoder = Callable[[torch.Tensor], torch.Tensor]


@torch.no_grad()
def frame_consistency(video: torch.Tensor, encoder: Encoder, num_frames: int | None = None) -> float:
    """Mean cosine of the embeddings of neighbouring frames, -1 to 1; TRIP (arXiv 2403.17005): first 4 and all frames.

    Figures compare only between runs of one encoder.

    Args:
        video: Pixels (F, 3, H, W) in [-1, 1].
        encoder: Frames (F, 3, H, W) in [-1, 1] to embeddings (F, D), such as those of CLIP.
        num_frames: The first ones only.

    Raises:
        ValueError: There are fewer than 2 frames, or the embeddings have another shape.
    """
    frames = video[:num_frames]
    if len(frames) < 2:
        raise ValueError(f"Consistency needs at least 2 frames, not {len(frames)}.")
    embeddings = encoder(frames)
    if embeddings.ndim != 2 or len(embeddings) != len(frames):
        raise ValueError(f"The encoder gives {tuple(embeddings.shape)} for {len(frames)} frames; (F, D) is needed.")
    embeddings = embeddings.float()
    return functional.cosine_similarity(embeddings[1:], embeddings[:-1]).mean().item()
