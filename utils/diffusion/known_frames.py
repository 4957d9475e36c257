"""The condition of a video of which some frames are known (`models/unet_spatio_temporal_condition.py`)."""

from collections.abc import Sequence

import torch

from utils.diffusion.svd_condition import Condition, ConditionEncoder, time_ids


def encode_known_frames(
    encoder: ConditionEncoder,
    images: torch.Tensor,
    places: Sequence[int],
    num_frames: int,
    fps: float | torch.Tensor,
    motion_bucket_id: float | torch.Tensor,
    noise_aug_strength: float | torch.Tensor,
    noise: torch.Tensor | None = None,
    guess: torch.Tensor | None = None,
) -> Condition:
    """The condition: a CLIP embedding for each known image, and latents with a mask channel, (B, F, C + 1, h, w).

    Where the first frame alone is known, its latents stand beside all frames, each marked as known, as the base has
    them.

    Args:
        images: Known frames (B, K, 3, H, W) in [-1, 1].
        places: Their numbers in the video, ascending, the first one 0.
        num_frames: F.
        fps, motion_bucket_id, noise_aug_strength, noise: As of `ConditionEncoder`, noise in the shape of images.
        guess: Frames (B, F, 3, H, W) in [-1, 1] whose latents stand beside the unknown ones, with the noise of the
            first known one; zeros by default.

    Raises:
        ValueError: The numbers are not ascending, leave the video, or are not as many as the images.
    """
    places = list(places)
    if len(places) != images.shape[1] or places != sorted(set(places)) or places[0] != 0 or places[-1] >= num_frames:
        raise ValueError(
            f"The known frames {places} of {images.shape[1]} images do not fit {num_frames} frames: number them "
            "from 0, ascending, one number for each image."
        )
    B, K = images.shape[:2]
    ids = time_ids(B, fps, motion_bucket_id, noise_aug_strength).to(images.device)
    noise = torch.randn_like(images) if noise is None else noise
    strength = ids[:, 2, None, None, None, None].to(images.dtype)
    known = mark(encode_frames(encoder, images + strength * noise), 1.0)
    if K == 1:
        latents = known.repeat(1, num_frames, 1, 1, 1)
    else:
        latents = known.new_zeros(B, num_frames, *known.shape[2:])
        unknown = [k for k in range(num_frames) if k not in places]
        if guess is not None and unknown:
            between = guess[:, unknown].to(images) + strength * noise[:, :1]
            latents[:, unknown] = mark(encode_frames(encoder, between), 0.0)
    latents[:, places] = known
    embeddings = torch.cat([encoder.embed(images[:, k]) for k in range(K)], dim=1)
    return Condition(embeddings, latents, ids.to(embeddings.dtype))


def encode_frames(encoder: ConditionEncoder, frames: torch.Tensor) -> torch.Tensor:
    """Latents (B, F, C, h, w) of frames (B, F, 3, H, W)."""
    return encoder.encode_latents(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])


def mark(latents: torch.Tensor, known: float) -> torch.Tensor:
    """Latents (B, F, C, h, w) with the mask's channel behind them."""
    return torch.cat([latents, torch.full_like(latents[:, :, :1], known)], dim=2)
