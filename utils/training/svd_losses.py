"""What the losses of trainings on Stable Video Diffusion are made of: latents of a batch, its conditions, the loss of flow."""

from collections.abc import Sequence

import torch
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from utils.diffusion.condition import Condition, ConditionEncoder, draw_noise_aug_strengths
from utils.diffusion.edm import EDM, Denoiser
from utils.flow.code import FlowCode
from utils.latents import ENCODED_TOGETHER, LatentScale
from utils.processes import process_state
from utils.training.seeding import SeededDataset

SCALE_SAMPLES = 64  # clips that the scale of the flow's latents is measured on


def draw_condition(
    batch: dict, num_frames: int, encoder: ConditionEncoder, args, frames: torch.Tensor | None = None
) -> Condition:
    """The condition of a batch, with noise on the image, and without the image for some samples; frames as of the encoder."""
    return draw_conditions(batch, num_frames, encoder, args, [frames])[0]


def draw_conditions(
    batch: dict, num_frames: int, encoder: ConditionEncoder, args, images: Sequence[torch.Tensor | None]
) -> list[Condition]:
    """`draw_condition` for each of several frames, with the same noise on all, and without the image for the same samples."""
    B = len(batch["image"])
    strengths = draw_noise_aug_strengths(B, args.noise_aug_mean, args.noise_aug_std)
    noise = torch.randn_like(batch["image"])
    dropped = torch.rand(B) < args.conditioning_dropout_prob
    known = batch["image"], num_frames, batch["fps"], batch["motion_bucket_id"], strengths, noise
    return [encoder(*known, image_frames=frames).drop(dropped) for frames in images]


def flow_loss(unet, batch: dict, encoder: ConditionEncoder, edm: EDM, code: FlowCode, args) -> torch.Tensor:
    """||F - v||² of flow from the image, at one noise level a clip: p(flow | image)."""
    y_0 = code.scale.normalize(encode_flow(batch, encoder.vae))
    B, F = y_0.shape[:2]
    condition = draw_condition(batch, F, encoder, args)
    sigma = edm.draw_sigmas(B).to(y_0.device)
    return Denoiser(unet, edm).loss(y_0, torch.randn_like(y_0), sigma, condition).mean()


@torch.no_grad()
def encode_clips(batch: dict, vae) -> torch.Tensor:
    """Scaled latents (B, F, C, h, w), a sample of the posterior, from pixels or from cached latents."""
    if "latents" in batch:
        return batch["latents"].float() * vae.config.scaling_factor
    return encode_frames(batch["pixel_values"], vae)


@torch.no_grad()
def encode_flow(batch: dict, vae) -> torch.Tensor:
    """Scaled latents (B, F, C, h, w), a sample of the posterior, of the flow's images or from cached latents."""
    if "flow_latents" in batch:
        return batch["flow_latents"].float() * vae.config.scaling_factor
    return encode_frames(batch["flow_pixel_values"], vae)


@torch.no_grad()
def encode_frames(frames: torch.Tensor, vae) -> torch.Tensor:
    """Scaled latents (B, F, C, h, w), a sample of the posterior, of images (B, F, 3, H, W) in [-1, 1]."""
    parts = frames.flatten(0, 1).split(ENCODED_TOGETHER)
    latents = torch.cat([vae.encode(part.to(vae.dtype)).latent_dist.sample() for part in parts])
    return latents.float().unflatten(0, frames.shape[:2]) * vae.config.scaling_factor


@torch.no_grad()
def decode_flow(y_0: torch.Tensor, vae, code: FlowCode) -> torch.Tensor:
    """Flow (B, F - 1, 2, H, W), pixels, of clean latents (B, F, C, h, w) as they are denoised."""
    latents = code.scale.denormalize(y_0).flatten(0, 1) / vae.config.scaling_factor
    images = vae.decode(latents.to(vae.dtype), num_frames=y_0.shape[1]).sample.float()
    return code.to_flow(images.unflatten(0, y_0.shape[:2]))


@torch.no_grad()
def measure_flow_scale(dataset: Dataset, vae, seed: int) -> LatentScale:
    """Mean and deviation of each channel of the flow's latents over the first samples; the same for a run that resumes."""
    vae.to(process_state().device)
    seeded = SeededDataset(dataset, seed)
    measured = tqdm(range(min(SCALE_SAMPLES, len(dataset))), desc="scale of the flow")
    samples = (seeded[0, index] for index in measured)
    flows = ({k: v[None].to(vae.device) for k, v in s.items() if k.startswith("flow")} for s in samples)
    return LatentScale.measure_channels(torch.cat([encode_flow(flow, vae) for flow in flows]))
