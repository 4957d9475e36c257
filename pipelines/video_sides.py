"""A video or its flow while both are sampled: where it starts, its noise level, its steps."""

from dataclasses import dataclass, field, replace

import torch

from pipelines.inputs import check_strength
from pipelines.sides import Side
from utils.diffusion.edm import EDM
from utils.diffusion.solver import Solver


@dataclass(frozen=True, eq=False)
class VideoSide(Side):
    """A video, or its flow, at one step of sampling.

    Attributes:
        name: Adapter of the flow; None for the video.
        latents: float32 (B, F, C, h, w), noisy.
        sigmas: Noise levels of all iterations (steps + 1,), falling to 0.
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

    def estimate(self, v: torch.Tensor, i: int) -> torch.Tensor:
        """The estimate of the clean latents (B, F, C, h, w) by the network's v."""
        return EDM().denoised(self.latents, v, self.level(i))

    def step(self, x_0: torch.Tensor, i: int) -> "VideoSide":
        """The side after iteration i, made towards an estimate of the clean latents."""
        if self.given or i < self.start:
            return self
        latents, solver = self.solver.step(self.latents, x_0, self.level(i), self.sigmas[i + 1])
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
        strength: Share of the steps that it takes, at least one; 0 makes it given, 1 ignores `clean`.
        clean: What is known of it, (B, F, C, h, w).
        solver: Makes its steps; by default Euler's.
    """
    solver = Solver() if solver is None else solver
    if strength == 0:
        return VideoSide(name, clean, sigmas, given=True)
    if strength == 1:
        return VideoSide(name, noise, sigmas, solver=solver)
    steps = len(sigmas) - 1
    start = steps - max(1, round(strength * steps))
    return VideoSide(name, clean + noise * (sigmas[start] / sigmas[0]), sigmas, start, solver=solver)


def check_strengths(video, flow, video_strength: float | None, flow_strength: float | None) -> tuple[float, float]:
    """Shares of the steps that video and flow take.

    Raises:
        ValueError: One is no share, or is of a side of which nothing is known, or nothing is left to sample.
    """
    strengths = (
        check_strength(video_strength, video, None, "The video"),
        check_strength(flow_strength, flow, None, "The flow"),
    )
    if not any(strengths):
        raise ValueError("Video and flow are both given and nothing is left to sample: raise a strength above 0.")
    return strengths
