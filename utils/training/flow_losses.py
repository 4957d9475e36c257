"""What the losses of flow are made of: latents and conditions of flow images, alone or below those of their videos."""

import torch
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from utils.diffusion.edm import EDM, Denoiser
from utils.diffusion.svd_condition import Condition, ConditionEncoder
from utils.flow.backward_flow import move_along
from utils.flow.code import FlowCode
from utils.latents import LatentScale, frames_to_decode
from utils.processes import process_state
from utils.training.seeding import SeededDataset
from utils.training.svd_losses import draw_condition, draw_conditions, encode_clips, encode_frames

SCALE_SAMPLES = 64  # clips that the scale of the flow's latents is measured on


def flow_loss(
    unet,
    batch: dict,
    encoder: ConditionEncoder,
    edm: EDM,
    code: FlowCode,
    args,
    seen: torch.Tensor | None = None,
) -> torch.Tensor:
    """||F - v||² of flow from the image, at one noise level a clip: p(flow | image).

    Args:
        seen: bool (B,): flows that have all frames of their video as conditioning images; by default none.
    """
    y_0 = code.scale.normalize(encode_flow(batch, encoder.vae))
    B, F = y_0.shape[:2]
    condition = draw_condition(batch, F, encoder, args)
    if seen is not None and seen.any():
        condition = condition.with_frames(encode_clips(batch, encoder.vae), encoder.vae.config.scaling_factor, seen)
    sigma = edm.draw_sigmas(B).to(y_0.device)
    return Denoiser(unet, edm).loss(y_0, torch.randn_like(y_0), sigma, condition).mean()


def one_step_loss(
    unet, batch: dict, encoder: ConditionEncoder, edm: EDM, code: FlowCode, args, sigma: float
) -> torch.Tensor:
    """Squared error of the estimate of a video's flow in one step, from the mean of the noise, 0 (after arXiv
    2409.11355, which takes an error of pixels). The frames of the video are the conditioning images.

    Args:
        sigma: Noise level at which sampling begins.
    """
    y_0 = code.scale.normalize(encode_flow(batch, encoder.vae))
    B, F = y_0.shape[:2]
    x_0 = encode_clips(batch, encoder.vae)
    condition = draw_condition(batch, F, encoder, args).with_frames(x_0, encoder.vae.config.scaling_factor)
    levels, mean = torch.full((B,), sigma, device=y_0.device), torch.zeros_like(y_0)
    v = Denoiser(unet, edm).predict(mean, levels, condition).float()
    return (edm.denoised(mean, v, levels) - y_0).square().mean()


@torch.no_grad()
def encode_flow(batch: dict, vae) -> torch.Tensor:
    """Scaled latents (B, F, C, h, w), the mode of the posterior, of the flow's images or from cached latents."""
    if "flow_latents" in batch:
        return batch["flow_latents"].float() * vae.config.scaling_factor
    return encode_frames(batch["flow_pixel_values"], vae)


def encode_sides(batch: dict, vae, code: FlowCode) -> torch.Tensor:
    """Clean latents (2B, F, C, h, w): videos, then flows."""
    return torch.cat([encode_clips(batch, vae), code.scale.normalize(encode_flow(batch, vae))])


def draw_side_conditions(
    batch: dict,
    clean: torch.Tensor,
    moved: torch.Tensor,
    seen: torch.Tensor,
    encoder: ConditionEncoder,
    code: FlowCode,
    args,
) -> Condition:
    """Conditions of videos, then of flows: the first frame.

    For videos in `moved` it is warped along their flow, and flows in `seen` have all frames of their video instead.

    Args:
        clean: Clean latents (2B, F, C, h, w), videos, then flows.
        moved, seen: bool (B,).
    """
    x_0, y_0 = clean.chunk(2)
    F = clean.shape[1]
    if moved.any():
        images = batch["image"][:, None].repeat(1, F, 1, 1, 1)
        for b in moved.nonzero().flatten().tolist():
            flow = decode_flow(y_0[b : b + 1], encoder.vae, code)[0]
            images[b] = move_along(batch["image"][b], flow)
        video, flow = draw_conditions(batch, F, encoder, args, [images, None])
    else:
        video = flow = draw_condition(batch, F, encoder, args)
    return Condition.join([video, flow.with_frames(x_0, encoder.vae.config.scaling_factor, seen)])


@torch.no_grad()
def decode_flow(y_0: torch.Tensor, vae, code: FlowCode) -> torch.Tensor:
    """Flow (B, F - 1, 2, H, W), pixels, of clean latents (B, F, C, h, w) as they are denoised."""
    B, F = y_0.shape[:2]
    numbers, kept = frames_to_decode(vae, 0, F, F)
    latents = code.scale.denormalize(y_0[:, numbers]).flatten(0, 1) / vae.config.scaling_factor
    images = vae.decode(latents.to(vae.dtype), num_frames=len(numbers)).sample.float()
    return code.to_flow(images.unflatten(0, (B, len(numbers)))[:, kept])


@torch.no_grad()
def measure_flow_scale(dataset: Dataset, vae, seed: int) -> LatentScale:
    """Mean and deviation of each channel of the flow's latents over the first samples, whatever the random state."""
    vae.to(process_state().device)
    seeded = SeededDataset(dataset, seed)
    measured = tqdm(range(min(SCALE_SAMPLES, len(dataset))), desc="scale of the flow")
    samples = (seeded[0, index] for index in measured)
    flows = ({k: v[None].to(vae.device) for k, v in s.items() if k.startswith("flow")} for s in samples)
    return LatentScale.measure_channels(torch.cat([encode_flow(flow, vae) for flow in flows]))
