"""One deterministic step from the mean of the noise at the last timestep (arXiv 2409.11355)."""

from diffusers import DDIMScheduler

ONE_STEP = "one_step"  # objective of a training, and mode of a command
DENOISING = "denoising"  # the other objective


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
