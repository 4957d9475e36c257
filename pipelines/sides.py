"""The sides of a pair while they are sampled, images and videos alike, and the loop over the steps.

Generation, estimation, coarse control and inpainting differ only in the noise level at which a side starts and in
what of it is known.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence

import torch

LARGEST_LATENT = 1000.0  # clean latents have a deviation of about 1


class Side(ABC):
    """One side at one step of sampling. Sides are frozen dataclasses; `step` returns the next one.

    Attributes:
        name: Adapter of a condition; None for the image or video that all pairs have as their x.
        latents: (B, ...), noisy.
        start: Iteration in which it takes its first step; before, it waits at its first noise level.
    """

    name: str | None
    latents: torch.Tensor
    start: int

    @property
    @abstractmethod
    def given(self) -> bool:
        """Whether it is known and stays as it is: its latents are clean, and it never steps."""

    @abstractmethod
    def level(self, i: int) -> torch.Tensor:
        """Noise level (B,) of the side in iteration i."""

    def with_known(self, i: int) -> "Side":
        """The side with what is known of it at the noise level of iteration i."""
        return self

    def estimate(self, prediction: torch.Tensor, i: int) -> torch.Tensor:
        """What its step is made with, from the prediction of the network."""
        return prediction

    @abstractmethod
    def step(self, estimate: torch.Tensor, i: int) -> "Side":
        """The side after iteration i; the same one where it is given, or waits."""


Estimates = dict[int, torch.Tensor]  # by number of the side
Estimate = Callable[[Sequence[Side], int], Estimates]


def denoise(
    sides: Sequence[Side],
    iterations: Iterable[int],
    estimate: Estimate,
    after_step: Callable[[list[Side], int], list[Side]] | None = None,
) -> list[Side]:
    """The sides after all iterations; every pipeline samples by this loop.

    Raises:
        FloatingPointError: The latents have left the range of images.

    Args:
        estimate: From sides and iteration to what the steps are made with; a side that it leaves out does not step.
        after_step: From sides and iteration to the sides of the next one.
    """
    for i in iterations:
        sides = [side.with_known(i) for side in sides]
        estimates = estimate(sides, i)
        sides = [side.step(estimates[k], i) if k in estimates else side for k, side in enumerate(sides)]
        sides = sides if after_step is None else after_step(sides, i)
    for side in sides:
        if not (side.latents.abs() <= LARGEST_LATENT).all():
            raise FloatingPointError(
                "The samples are no images: their latents are not finite, or above "
                f"{LARGEST_LATENT:g}. Bring guidance scales and other factors nearer to their defaults."
            )
    return list(sides)


def first_iteration(sides: Sequence[Side]) -> int:
    """The one in which a side takes the first step of all."""
    return min(side.start for side in sides if not side.given)
