"""The diffusion of Stable Video Diffusion: EDM (Karras et al., NeurIPS 2022) with a network that predicts v. Training
and sampling share it.

With clean latents x_0 of deviation 1, noise n ~ N(0, 1) and a noise level sigma (SVD paper, arXiv 2311.15127,
appendix D):

    x_t = x_0 + sigma n
    D(x_t; sigma) = c_skip x_t + c_out F(c_in x_t; c_noise)                 the estimate of x_0
    c_skip = 1 / (sigma² + 1)         c_out = -sigma / √(sigma² + 1)
    c_in = 1 / √(sigma² + 1)          c_noise = ln(sigma) / 4

The loss of D, weighed by (1 + sigma²) / sigma², is the plain squared error of F against

    v = (n - sigma x_0) / √(1 + sigma²)

and is computed so: no large factor meets a small difference.

A side that is given has sigma = 0: its latents enter as they are, under the embedding of the smallest noise level.
"""

from dataclasses import dataclass

import torch
from torch import nn

from utils.diffusion.svd_condition import Condition


@dataclass(frozen=True)
class EDM:
    """Noise levels and preconditioning.

    Attributes:
        sigma_mean, sigma_std: ln(sigma) ~ N(sigma_mean, sigma_std²) in training; (1.0, 1.6) for the released SVD at
            576x1024, (0.7, 1.6) at 320x576, (1.0, 1.2) for interpolation between first and last frame.
        sigma_min: Level whose embedding a given side has.
    """

    sigma_mean: float = 0.7
    sigma_std: float = 1.6
    sigma_min: float = 0.002

    def draw_sigmas(self, count: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Levels (count,), one for each sample, float32 on the CPU."""
        return (self.sigma_mean + self.sigma_std * torch.randn(count, generator=generator)).exp()

    def add_noise(self, x_0: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """x_t (B, ...) from x_0 and noise of that shape and sigma (B,)."""
        return x_0 + spread(sigma, x_0) * noise

    def scale_input(self, x_t: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """c_in x_t: what the network sees."""
        return x_t / (spread(sigma, x_t).square() + 1).sqrt()

    def timestep(self, sigma: torch.Tensor) -> torch.Tensor:
        """c_noise (B,): the network's timestep."""
        return sigma.clamp(min=self.sigma_min).log() / 4

    def velocity(self, x_0: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """v, which the network is to predict."""
        sigma = spread(sigma, x_0)
        return (noise - sigma * x_0) / (sigma.square() + 1).sqrt()

    def denoised(self, x_t: torch.Tensor, v: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """D: the estimate of x_0 that the prediction v of x_t means."""
        sigma = spread(sigma, x_t)
        return x_t / (sigma.square() + 1) - v * sigma / (sigma.square() + 1).sqrt()

    def loss_weight(self, sigma: torch.Tensor) -> torch.Tensor:
        """(1 + sigma²) / sigma², which turns the squared error of x_0 into that of v."""
        return (1 + sigma.square()) / sigma.square()


class Denoiser:
    """A video UNet as a denoiser: `loss` trains it, `denoise` samples with it."""

    def __init__(self, unet: nn.Module, edm: EDM | None = None):
        self.unet = unet
        self.edm = edm or EDM()

    def predict(self, x_t: torch.Tensor, sigma: torch.Tensor, condition: Condition) -> torch.Tensor:
        """v for latents x_t (B, F, C, h, w) at sigma (B,), in the type of x_t; the network gets that of the embeddings.

        Latents are to be float32 where the network is float16: the square of sigma would overflow.
        """
        inputs = torch.cat([self.edm.scale_input(x_t, sigma), condition.image_latents.to(x_t.dtype)], dim=2)
        embeddings, timestep = condition.image_embeddings, self.edm.timestep(sigma)
        v = self.unet(inputs.to(embeddings.dtype), timestep, embeddings, condition.time_ids, return_dict=False)[0]
        return v.to(x_t.dtype)

    def denoise(self, x_t: torch.Tensor, sigma: torch.Tensor, condition: Condition) -> torch.Tensor:
        """The estimate of x_0."""
        return self.edm.denoised(x_t, self.predict(x_t, sigma, condition), sigma)

    def loss(self, x_0: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor, condition: Condition) -> torch.Tensor:
        """Squared error of v (B,), float32, of scaled clean latents x_0 (B, F, C, h, w)."""
        return self.loss_and_estimate(x_0, noise, sigma, condition)[0]

    def loss_and_estimate(
        self, x_0: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor, condition: Condition
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss (B,), and the estimate of x_0 behind it, for losses that look at the clip."""
        x_t = self.edm.add_noise(x_0, noise, sigma)
        v = self.predict(x_t, sigma, condition).float()
        error = v - self.edm.velocity(x_0.float(), noise.float(), sigma)
        return error.square().flatten(1).mean(dim=1), self.edm.denoised(x_t.float(), v, sigma)


def spread(values: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Values (B,) or () with as many dimensions as the reference, on its device and of its type."""
    values = values.to(reference.device, reference.dtype)
    return values.reshape(-1, *[1] * (reference.ndim - 1))
