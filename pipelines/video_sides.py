"""A video or its flow while both are sampled: where it starts, its noise level, its steps."""

from dataclasses import dataclass, field, replace

import torch

from pipelines.rows import ALONE, FREE, TEXT
from utils.diffusion.edm import EDM
from utils.diffusion.guidance import FrameGuidance
from utils.diffusion.solver import Solver


@dataclass(frozen=True, eq=False)
class VideoSide:
    """One side at one step of sampling; `step` returns the next one.

    Attributes:
        name: Of the adapter; None for the video.
        latents: float32 (B, F, C, h, w), noisy.
        sigmas: Levels of all iterations (steps + 1,), falling to 0.
        start: Iteration in which it takes its first step; before, it waits at its first level.
        given: It has the level 0 and never steps.
        solver: Makes its steps.
    """

    name: str | None
    latents: torch.Tensor
    sigmas: torch.Tensor
    start: int = 0
    given: bool = False
    solver: Solver = field(default_factory=Solver)

    def level(self, i: int) -> torch.Tensor:
        """sigma (B,) in iteration i."""
        level = torch.zeros_like(self.sigmas[0]) if self.given else self.sigmas[max(i, self.start)]
        return level.expand(len(self.latents))

    def denoised(self, v: torch.Tensor, i: int) -> torch.Tensor:
        """The estimate of the clean latents in iteration i. v: (B, F, C, h, w), what the network predicts."""
        return EDM().denoised(self.latents, v, self.level(i))

    def estimate(
        self, terms: dict[str, torch.Tensor], i: int, guidance: FrameGuidance | None, joint_guidance_scale: float
    ) -> torch.Tensor:
        """The guided estimate of the clean latents in iteration i, of the predictions of v by the terms of `pipelines/rows.py`."""
        told = terms[TEXT]
        v = told if FREE not in terms else guidance(terms[FREE], told, self.denoised(told, i), self.level(i))
        if ALONE in terms:
            v = v + joint_guidance_scale * (told - terms[ALONE])
        return self.denoised(v, i)

    def step(self, x_0: torch.Tensor, i: int, next_sigma: torch.Tensor) -> "VideoSide":
        """The side after iteration i, made towards an estimate of the clean latents."""
        if self.given or i < self.start:
            return self
        latents, solver = self.solver.step(self.latents, x_0, self.level(i), next_sigma)
        return replace(self, latents=latents, solver=solver)


def start_video_side(
    name: str | None,
    sigmas: torch.Tensor,
    noise: torch.Tensor,
    strength: float,
    clean: torch.Tensor | None = None,
    solver: Solver | None = None,
) -> VideoSide:
    """A side before its first step.

    Args:
        noise: At the largest level, (B, F, C, h, w).
        strength: Share of the steps that it takes, at least one; 0 makes it given, 1 forgets `clean`.
        clean: What is known of it, (B, F, C, h, w).
        solver: Makes its steps; by default Euler's.
    """
    solver = Solver() if solver is None else solver
    if strength == 0:
        return VideoSide(name, clean, sigmas, given=True)
    steps = len(sigmas) - 1
    start = steps - max(1, round(strength * steps))
    if strength == 1:
        return VideoSide(name, noise, sigmas, solver=solver)
    return VideoSide(name, clean + noise * (sigmas[start] / sigmas[0]), sigmas, start, solver=solver)


def check_strength(name: str, known: torch.Tensor | None, strength: float | None) -> float:
    """The strength of a side: by default 0 for one that is known, 1 for another.

    Raises:
        ValueError: It is not in [0, 1], or for a side of which nothing is known.
    """
    if known is None and strength not in (None, 1):
        raise ValueError(f"{name}_strength={strength} is for a known {name}: pass {name} too.")
    strength = (1.0 if known is None else 0.0) if strength is None else strength
    if not 0 <= strength <= 1:
        raise ValueError(f"{name}_strength={strength} is not between 0 and 1.")
    return strength
