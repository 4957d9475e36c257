"""What the losses of trainings on Stable Video Diffusion are made of: latents of a batch and its conditions."""

from collections.abc import Sequence

import torch

from utils.diffusion.svd_condition import Condition, ConditionEncoder, draw_noise_aug_strengths
from utils.latents import encode_mode


def draw_condition(
    batch: dict, num_frames: int, encoder: ConditionEncoder, args, frames: torch.Tensor | None = None
) -> Condition:
    """The condition of a batch, with noise on the image, and for some samples without it; frames as of the encoder."""
    return draw_conditions(batch, num_frames, encoder, args, [frames])[0]


def draw_conditions(
    batch: dict, num_frames: int, encoder: ConditionEncoder, args, images: Sequence[torch.Tensor | None]
) -> list[Condition]:
    """`draw_condition` for each of several conditioning images, with the same noise, dropped for the same samples."""
    B = len(batch["image"])
    strengths = draw_noise_aug_strengths(B, args.noise_aug_mean, args.noise_aug_std)
    noise = torch.randn_like(batch["image"])
    dropped = torch.rand(B) < args.conditioning_dropout_prob
    known = batch["image"], num_frames, batch["fps"], batch["motion_bucket_id"], strengths, noise
    return [encoder(*known, image_frames=frames).drop(dropped) for frames in images]


@torch.no_grad()
def encode_clips(batch: dict, vae) -> torch.Tensor:
    """Scaled latents (B, F, C, h, w), the mode of the posterior, from pixels or from cached latents."""
    if "latents" in batch:
        return batch["latents"].float() * vae.config.scaling_factor
    return encode_frames(batch["pixel_values"], vae)


@torch.no_grad()
def encode_frames(frames: torch.Tensor, vae) -> torch.Tensor:
    """Scaled latents (B, F, C, h, w), the mode of the posterior, of images (B, F, 3, H, W) in [-1, 1]."""
    return encode_mode(vae, frames.flatten(0, 1)).float().unflatten(0, frames.shape[:2]) * vae.config.scaling_factor
