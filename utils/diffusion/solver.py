"""Steps from noise level to noise level."""

from dataclasses import dataclass, replace

import torch
from diffusers.utils.torch_utils import randn_tensor

from utils.diffusion.edm import spread


@dataclass(frozen=True, eq=False)
class Solver:
    """From noise level to noise level along the estimates of the clean latents.

    Attributes:
        order: 1 is Euler's method, that of diffusers' pipeline. 2 is DPM-Solver++(2M) (arXiv 2211.01095, algorithm
            2), which extrapolates through this estimate and the last one: with few steps a step of Euler falls short
            where the estimates still grow, and things move less than the network predicts. It costs no further
            evaluation.
        eta: How much of the noise each step renews, 0 to 1, as in DDIM (arXiv 2010.02502, equation 16); 1 is ancestral
            sampling. A step of Euler then goes below the next level, and fresh noise brings it back up, so that what
            earlier steps got wrong is estimated again.
        generator: Of the fresh noise: one, or one for each sample.
        last: Estimate and level of the step before; None at the first.
    """

    order: int = 1
    eta: float = 0.0
    generator: torch.Generator | list[torch.Generator] | None = None
    last: tuple[torch.Tensor, torch.Tensor] | None = None

    def __post_init__(self):
        if self.order not in (1, 2):
            raise ValueError(f"solver_order={self.order} is unknown: choose 1 (Euler) or 2 (DPM-Solver++).")
        if self.order == 2 and self.eta > 0:
            raise ValueError(f"eta={self.eta:g} goes with steps of Euler: choose solver_order=1, or eta=0.")

    def step(
        self, x_t: torch.Tensor, x_0: torch.Tensor, sigma: torch.Tensor, next_sigma: torch.Tensor
    ) -> tuple[torch.Tensor, "Solver"]:
        """Latents at next_sigma (), and the solver for the step after that; sigma is () or (B,), the same for all."""
        level = sigma.flatten()[0]
        if self.eta > 0:
            kept = (1 - self.eta**2 * (1 - (next_sigma / level) ** 2)).sqrt()
            return self.renewed(x_t, x_0, sigma, next_sigma, kept), self
        towards = x_0
        if self.order == 2 and self.last is not None and next_sigma > 0:
            last_x_0, last_level = self.last
            ahead = torch.log(level / next_sigma) / torch.log(last_level / level) / 2
            towards = x_0 + ahead.to(x_0) * (x_0 - last_x_0)
        return euler_step(x_t, towards, sigma, next_sigma), replace(self, last=(x_0, level))

    def renewed(
        self, x_t: torch.Tensor, x_0: torch.Tensor, sigma: torch.Tensor, next_sigma: torch.Tensor, kept: torch.Tensor
    ) -> torch.Tensor:
        """Latents at next_sigma () with that share of the old noise's deviation; the rest is fresh."""
        kept, next_sigma = kept.to(x_t), next_sigma.to(x_t)
        noise = randn_tensor(x_t.shape, self.generator, x_t.device, x_t.dtype)
        return euler_step(x_t, x_0, sigma, kept * next_sigma) + (1 - kept**2).sqrt() * next_sigma * noise


@dataclass(frozen=True, eq=False)
class ResamplingSolver(Solver):
    """A solver that repeats steps: between equal levels part of the noise is drawn anew (RePaint, arXiv 2201.09865).

    Predictions that do not agree so get a chance to, at a level where outlines are still open.

    Attributes:
        kept: Share of the noise's deviation that is left before new noise is added, 0 to 1.
    """

    kept: float = 0.7

    def step(
        self, x_t: torch.Tensor, x_0: torch.Tensor, sigma: torch.Tensor, next_sigma: torch.Tensor
    ) -> tuple[torch.Tensor, "Solver"]:
        level = sigma.flatten()[0]
        if next_sigma != level:
            return super().step(x_t, x_0, sigma, next_sigma)
        return self.renewed(x_t, x_0, sigma, level, torch.tensor(self.kept)), replace(self, last=None)


def repeat_levels(sigmas: torch.Tensor, between: tuple[float, float], times: int) -> torch.Tensor:
    """Levels (steps + 1,) of which those in an interval, lowest and highest, stand there 1 + times in a row."""
    low, high = between
    counts = torch.where((sigmas >= low) & (sigmas <= high), 1 + times, 1)
    return sigmas.repeat_interleave(counts)


def euler_step(x_t: torch.Tensor, x_0: torch.Tensor, sigma: torch.Tensor, next_sigma: torch.Tensor) -> torch.Tensor:
    """From noise level sigma to next_sigma, both (B,) or (), towards x_0 (EDM, algorithm 1 without churn)."""
    sigma, next_sigma = spread(sigma, x_t), spread(next_sigma, x_t)
    return x_0 + (x_t - x_0) * (next_sigma / sigma)
