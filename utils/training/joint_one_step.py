"""Estimation of a condition from its image in one deterministic step, trained end to end (arXiv 2409.11355)."""

import torch

from utils.data.cache import encode_pair
from utils.diffusion.one_step import one_step_scheduler
from utils.diffusion.pairs import GIVEN_TIMESTEP
from utils.latents import LatentScale
from utils.training.joint_adapter import pair_up
from utils.training.sd import SDBase


def one_step_loss(unet, batch: dict, base: SDBase, scale: LatentScale, args) -> torch.Tensor:
    """Mean absolute error of the condition's pixels, decoded from the estimate of one step without a prompt.

    The gradient passes through the decoder. There is no alignment in scale and shift, as a condition has a fixed range.
    """
    condition = {name: value for name, value in batch.items() if name.startswith("conditioning")}
    x_0, _ = encode_pair({name: value for name, value in batch.items() if name not in condition}, base.vae)
    estimate = estimate_clean(unet, x_0.float(), base, args)
    decoded = decode(base.vae, scale.denormalize(estimate))
    return (decoded - target_pixels(condition, base.vae)).abs().mean()


@torch.no_grad()
def target_pixels(condition: dict, vae) -> torch.Tensor:
    """The condition's pixels (B, 3, H, W); of cached latents, which have none, those that the decoder makes of them."""
    if "conditioning_pixel_values" in condition:
        return condition["conditioning_pixel_values"]
    return decode(vae, encode_pair(condition, vae)[1].float())


def estimate_clean(unet, x_0: torch.Tensor, base: SDBase, args) -> torch.Tensor:
    """Clean latents of y (B, C, h, w) by one call, x being given and y the mean of the noise at the last timestep."""
    B, y_t = len(x_0), torch.zeros_like(x_0)
    scheduler = one_step_scheduler(base.scheduler)
    last = scheduler.timesteps[0]
    t = torch.cat([last.new_full((B,), GIVEN_TIMESTEP), last.expand(B)]).to(x_0.device)
    pair_up(base.unet, args.adapter_name, B, "y_reads_x")
    text = base.text([""] * B + [args.trigger_word] * B, x_0.device)
    prediction = unet(torch.cat([x_0, y_t]), t, text).sample[B:].float()
    return scheduler.step(prediction, last, y_t).prev_sample


def decode(vae, latents: torch.Tensor) -> torch.Tensor:
    """Pixels (B, 3, H, W) of latents after the autoencoder's scaling factor."""
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    return vae.decode(latents / vae.config.scaling_factor + shift).sample
