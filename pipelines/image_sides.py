"""An image or a condition while it is sampled: its own scheduler, noise level and known parts."""

import copy
import inspect
from dataclasses import dataclass, field, replace

import torch
from diffusers import PNDMScheduler

from pipelines.sides import Side
from utils.diffusion.pairs import GIVEN_TIMESTEP
from utils.latents import LatentScale


@dataclass(frozen=True, eq=False)
class ImageSide(Side):
    """An image, or a condition of it, at one step of sampling.

    Attributes:
        name: Adapter of the condition; None for the image.
        scale: Between the latents of the VAE and those that the network sees.
        scheduler: Its own, since a scheduler keeps the history of what it denoises.
        timesteps: The noise levels of its steps; none if the side is given.
        start: Iteration in which it takes its first step; before, it waits at its first level.
        latents: (B, C, h, w), noisy.
        noise: (B, C, h, w), added to `clean`.
        clean: (B, C, h, w), what is known of it, or None.
        mask: (B, 1, h, w), 1 where it is generated and 0 where `clean` is kept; None if nothing is kept.
        step_kwargs: What its scheduler's `step` takes besides, such as a generator.
    """

    name: str | None
    scale: LatentScale
    scheduler: object
    timesteps: torch.Tensor
    start: int
    latents: torch.Tensor
    noise: torch.Tensor
    clean: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    step_kwargs: dict = field(default_factory=dict)

    @property
    def given(self) -> bool:
        return len(self.timesteps) == 0

    def level(self, i: int) -> torch.Tensor:
        """Timestep (B,) in iteration i."""
        if self.given:
            return self.timesteps.new_full((len(self.latents),), GIVEN_TIMESTEP)
        return self.timesteps[max(i - self.start, 0)].expand(len(self.latents))

    def with_known(self, i: int) -> "ImageSide":
        """The side with its known part at the noise level of iteration i."""
        if self.mask is None or self.given:
            return self
        known = self.scheduler.add_noise(self.clean, self.noise, self.level(i))
        return replace(self, latents=self.mask * self.latents + (1 - self.mask) * known)

    def model_input(self, i: int) -> torch.Tensor:
        """What the network sees, (B, C, h, w): clean latents without noise for a given side, whatever the scheduler."""
        if self.given:
            return self.latents
        return self.scheduler.scale_model_input(self.latents, self.level(i)[0])

    def step(self, prediction: torch.Tensor, i: int) -> "ImageSide":
        """The side after iteration i, by a prediction (B, C, h, w) of the kind that its scheduler expects."""
        if self.given or i < self.start:
            return self
        t = self.level(i)[0]
        latents = self.scheduler.step(prediction, t, self.latents, **self.step_kwargs, return_dict=False)[0]
        return replace(self, latents=latents)

    def at(self, latents: torch.Tensor) -> "ImageSide":
        """The side with other latents, unless it is given."""
        return self if self.given else replace(self, latents=latents)

    def result(self) -> torch.Tensor:
        """Latents of the VAE, (B, C, h, w), with the known part exactly as it was."""
        latents = self.latents
        if self.mask is not None:
            latents = self.mask * latents + (1 - self.mask) * self.clean
        return self.scale.denormalize(latents)


def start_side(name, scale, scheduler, noise, strength, clean=None, mask=None, generator=None, eta=0.0) -> ImageSide:
    """A side before the first step.

    scheduler: With its timesteps set; it is copied. noise: (B, C, h, w) of variance 1. strength: Share of the noise
    at which the side starts: 1 ignores `clean` outside of the mask, 0 makes it given. clean: (B, C, h, w), normalised.
    """
    scheduler = copy.deepcopy(scheduler)
    timesteps = late_timesteps(scheduler, strength)
    start = len(scheduler.timesteps) - len(timesteps)
    if hasattr(scheduler, "set_begin_index") and len(timesteps):
        scheduler.set_begin_index(start)
    if strength == 0:
        latents, mask = clean, None
    elif strength == 1:
        latents = noise * scheduler.init_noise_sigma
    else:
        latents = scheduler.add_noise(clean, noise, timesteps[:1].expand(len(noise)))
    step_kwargs = accepted(scheduler.step, eta=eta, generator=generator)
    return ImageSide(name, scale, scheduler, timesteps, start, latents, noise, clean, mask, step_kwargs)


def late_timesteps(scheduler, strength: float) -> torch.Tensor:
    """The last timesteps of a scheduler, from a share of the noise on; none for 0, at least a step otherwise."""
    if strength == 1:
        return scheduler.timesteps
    steps = scheduler.num_inference_steps
    kept = max(1, round(steps * strength)) if strength > 0 else 0
    if isinstance(scheduler, PNDMScheduler):
        return late_pndm_timesteps(scheduler, kept)
    return scheduler.timesteps[min((steps - kept) * scheduler.order, len(scheduler.timesteps)) :]


def late_pndm_timesteps(scheduler: PNDMScheduler, kept: int) -> torch.Tensor:
    """PNDM evaluates the second of its timesteps twice, wherever it starts."""
    if kept and not scheduler.config.skip_prk_steps:
        raise ValueError("PNDMScheduler starts from partial noise only with skip_prk_steps=True.")
    levels = torch.unique(scheduler.timesteps).flip(0)
    levels = levels[len(levels) - kept :]
    return torch.cat([levels[:2], levels[1:]])


def check_scheduler(scheduler) -> None:
    """Raises ValueError for a scheduler that noises differently from Stable Diffusion's."""
    if not all(hasattr(scheduler, name) for name in ("add_noise", "init_noise_sigma", "alphas_cumprod")):
        raise ValueError(f"{type(scheduler).__name__} cannot sample Stable Diffusion: choose DDIMScheduler, say.")


def accepted(function, **kwargs) -> dict:
    """The arguments that a function takes, out of all given ones."""
    return {key: value for key, value in kwargs.items() if key in inspect.signature(function).parameters}
