"""TRIP over video UNets that are conditioned on text, the paper's kind: ε of DDPM latents.

`TripTextUNet` is what is trained. `TextDenoiser` is the one object by which it is trained and sampled: its loss is that
of ε at the timesteps of a DDPM schedule, and for samplers it predicts v of the latents x_t = z_t / √ᾱ of EDM at the
noise levels σ = √(1 - ᾱ) / √ᾱ of the same timesteps, in which a step of Euler is one of DDIM.
"""

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass

import torch
from diffusers import SchedulerMixin, UNet3DConditionModel
from torch import nn

from models.trip import FORMS, TripFusion, noise_prior_ddpm, noise_to_v, v_to_noise
from models.trip_unet import drop_frame, given_frame, place_frame
from utils.diffusion.edm import spread

# These UNets have no channels for an image, so that forms which differ in them alone are one.
FORMS_OF_TEXT = tuple(name for name, form in FORMS.items() if form.place and form.channels)
LEVELS = 8  # timesteps of errors on clips held out, evenly spread


@dataclass(frozen=True)
class TextCondition:
    """What a text to video network is conditioned on.

    Attributes:
        prompt_embeds: (B, L, D).
        first: Clean, scaled latents of the first frame (B, 1, C, h, w).
    """

    prompt_embeds: torch.Tensor
    first: torch.Tensor


class TripTextUNet(nn.Module):
    """`UNet3DConditionModel`, conditioned on text, with the image noise prior.

    Args:
        unet: Predicts ε.
        fusion: Its form's channels are not used: such UNets have none for an image.
    """

    def __init__(self, unet: UNet3DConditionModel, fusion: TripFusion):
        super().__init__()
        self.unet, self.fusion = unet, fusion

    def forward(
        self,
        z_t: torch.Tensor,
        timestep: torch.Tensor,
        alpha_bar: torch.Tensor,
        prompt_embeds: torch.Tensor,
        first: torch.Tensor,
    ) -> torch.Tensor:
        """ε (B, F, C, h, w).

        Args:
            z_t: Noisy latents (B, F, C, h, w).
            timestep: (B,).
            alpha_bar: ᾱ of each timestep (B,), above 0 and below 1.
            prompt_embeds: (B, L, D).
            first: Clean latents of the first frame (B, 1, C, h, w).
        """
        residual = self.predict_residual(z_t, timestep, prompt_embeds, first)
        if not self.fusion.form.prior:
            return residual
        prior = noise_prior_ddpm(z_t, first, alpha_bar)
        prior, residual = (noise_to_v(noise, z_t, alpha_bar) for noise in (prior, residual))
        sigma = ((1 - alpha_bar) / alpha_bar).sqrt()
        return v_to_noise(self.fusion(prior, residual, sigma), z_t, alpha_bar)

    def predict_residual(self, z_t, timestep, prompt_embeds, first) -> torch.Tensor:
        """The UNet's own ε (B, F, C, h, w)."""
        place, dtype = self.fusion.form.place, prompt_embeds.dtype
        inputs = place_frame(z_t, first.to(z_t), place).transpose(1, 2).to(dtype)  # (B, C, F + 1, h, w)
        with given_frame(self.unet, torch.zeros_like(timestep), place, inputs.shape[2]):
            noise = self.unet(inputs, timestep, prompt_embeds, return_dict=False)[0]
        return drop_frame(noise.transpose(1, 2), place).to(z_t.dtype)


class TextDenoiser:
    """A `TripTextUNet` as a denoiser at the timesteps of a schedule.

    Args:
        model: A `TripTextUNet`, or what a training has made of it.
        scheduler: One of diffusers with `alphas_cumprod`.

    Raises:
        ValueError: The schedule is not for a network that predicts ε, or its last timestep is pure noise.
    """

    def __init__(self, model: nn.Module, scheduler: SchedulerMixin):
        if (kind := scheduler.config.prediction_type) != "epsilon":
            raise ValueError(f"The scheduler is for {kind}: TRIP on text needs a base that predicts epsilon.")
        self.model, self.alpha_bar = model, scheduler.alphas_cumprod.float()
        if self.alpha_bar.min() <= 0:
            raise ValueError(
                "The schedule ends in pure noise, of which epsilon says nothing: set rescale_betas_zero_snr to false."
            )
        self.all_sigmas = ((1 - self.alpha_bar) / self.alpha_bar).sqrt()  # by timestep

    def of(self, model: nn.Module) -> "TextDenoiser":
        """The same of another model, such as what a training has made of it."""
        other = copy(self)
        other.model = model
        return other

    @property
    def num_timesteps(self) -> int:
        return len(self.alpha_bar)

    def sigmas(self, timesteps: torch.Tensor) -> torch.Tensor:
        """Noise levels of EDM at timesteps (n,)."""
        return self.all_sigmas[timesteps.long().cpu()]

    def levels(self, clean: torch.Tensor, generator: torch.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Timesteps (), evenly spread, and noise like clean latents for each."""
        for timestep in ((torch.arange(LEVELS) + 0.5) / LEVELS * self.num_timesteps).long():
            yield timestep.to(clean.device), torch.randn(clean.shape, generator=generator).to(clean)

    def predict(self, x_t: torch.Tensor, sigma: torch.Tensor, condition: TextCondition) -> torch.Tensor:
        """v of EDM latents x_t (B, F, C, h, w) at sigma (B,), levels of the schedule."""
        timestep = (self.all_sigmas[None] - sigma.cpu()[:, None]).abs().argmin(dim=1).to(x_t.device)
        alpha_bar = 1 / (1 + sigma.square())
        z_t = x_t * spread(alpha_bar.sqrt(), x_t)
        noise = self.model(z_t, timestep, alpha_bar.to(x_t), condition.prompt_embeds, condition.first)
        return noise_to_v(noise, z_t, alpha_bar)

    def loss(
        self, z_0: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor, condition: TextCondition
    ) -> torch.Tensor:
        """Squared error of ε (B,), float32, of scaled clean latents z_0 (B, F, C, h, w) at timesteps (B,)."""
        alpha_bar = self.alpha_bar.to(z_0.device)[timestep]
        z_t = spread(alpha_bar.sqrt(), z_0) * z_0 + spread((1 - alpha_bar).sqrt(), z_0) * noise
        predicted = self.model(z_t, timestep, alpha_bar, condition.prompt_embeds, condition.first)
        return (predicted.float() - noise.float()).square().flatten(1).mean(dim=1)


def check_text_form(form: str) -> None:
    """Raises ValueError for a form that text to video bases do not have."""
    if form not in FORMS_OF_TEXT:
        raise ValueError(
            f"--form {form} is about channels for an image, and text to video bases have none: "
            f"choose one of {', '.join(FORMS_OF_TEXT)}."
        )
