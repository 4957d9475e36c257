"""Estimation in one deterministic step, of a condition from its image or of the flow of a video."""

import torch
from diffusers import DDIMScheduler

from utils.diffusion.pairs import GIVEN_TIMESTEP

ONE_STEP = "one_step"  # objective of a training, and mode of a command
DENOISING = "denoising"  # the other objective


def estimate_latents(unet, x_0: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    """Latents of a condition by one call of a network that was trained for it: image in, condition out.

    The image stands in for the noise of the condition, with alpha 0 and sigma 1: the noisy sample is x_0, and v is -y_0
    (GenPercept, arXiv 2403.06090). For a base that predicts noise the sign is a convention. The timestep is that of
    clean latents; with the last one a network learns more slowly (docs/experiments/depth_image.md).

    Args:
        x_0: Clean latents of the image, (B, C, h, w).
        text: Embeddings of the empty prompt, (B, N, D).
    """
    return -unet(x_0, GIVEN_TIMESTEP, text).sample


def one_step_scheduler(scheduler) -> DDIMScheduler:
    """DDIM with the noise levels of another scheduler and one step, from its last timestep to clean latents.

    Timesteps are spaced "trailing": with any other spacing the single step would begin at another noise level than its
    timestep says.
    """
    fixed = {"timestep_spacing": "trailing", "set_alpha_to_one": True, "clip_sample": False, "thresholding": False}
    single = DDIMScheduler.from_config(scheduler.config, **fixed)
    single.set_timesteps(1)
    return single


def first_sigma(scheduler) -> float:
    """Noise level at which a sampling of one step by Euler's method begins; sets the scheduler."""
    scheduler.set_timesteps(1)
    return float(scheduler.sigmas[0])
