"""Guides sampled flow, at every step, towards the flow that is known at a few pixels.

Before each step the estimate of the clean latents is decoded to a flow image and compared with the known flow's, and
the estimate is changed: by the gradient of the squared error (as in diffusion posterior sampling, arXiv 2209.14687,
with Polyak's step length), or by setting the pixels. Flow images are compared, not flow in pixels, whose gradient by
the image vanishes where nothing moves.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from pipelines.pipeline_stable_video_diffusion_joint import StableVideoDiffusionJointPipeline
from pipelines.sides import Estimates
from pipelines.video_inputs import FLOW, StepEstimate
from pipelines.video_sides import VideoSide
from utils.commands.settings import Settings, about

GUIDANCES = ("gradient", "decoder_gradient", "replace")
LARGEST_CHANGE = 1.0  # of an element of the estimate at once; latents have deviation 1


@dataclass(frozen=True)
class Steering(Settings):
    """How the flow is guided to the tracks.

    Attributes:
        guidance: "gradient" through decoder and network, which also changes the estimate of a video that is sampled
            together with the flow; "decoder_gradient", which leaves the network out and is cheaper; or "replace": the
            known pixels are set, and the change that this makes in the latents is added. The autoencoder smooths away
            details smaller than one latent pixel, so "replace" needs discs of at least that radius.
        guidance_strength: 1 takes the whole change; for gradients, in the linear approximation, down to an error of 0.
        guidance_steps: Share of the steps, from the first one on, that are guided, at least one; the others are free.
        guidance_iterations: Gradient steps at each step.
    """

    guidance: str = field(
        default="gradient", metadata=about("how the flow is guided to the tracks", str, choices=GUIDANCES)
    )
    guidance_strength: float = field(
        default=1.0, metadata=about("share of the guidance's change that is taken, above 0", above=0)
    )
    guidance_steps: float = field(
        default=0.8, metadata=about("share of the denoising steps, above 0, up to 1, that are guided", above=0, high=1)
    )
    guidance_iterations: int = field(
        default=3, metadata=about("gradient steps in each denoising step that is guided, 1 or more", int, low=1)
    )


class FlowSteer:
    """A `Steer` of the joint pipeline.

    Args:
        pipe: The pipeline that samples.
        flow: Wanted flow (B, F - 1, 2, H, W) in pixels; it counts where known.
        known: bool (B, F - 1, 1, H, W).
        steering: How.
        points: bool (B, F - 1, 1, H, W), which of the known pixels are of points: these weigh as much as all others
            together, so that a few dragged points are not lost beside a camera's or a static region's many pixels.
        decode_chunk_size: Frames that are decoded at once; by default all.

    Raises:
        ValueError: Nothing is known of a video.
    """

    def __init__(
        self,
        pipe: StableVideoDiffusionJointPipeline,
        flow: torch.Tensor,
        known: torch.Tensor,
        steering: Steering,
        points: torch.Tensor,
        decode_chunk_size: int | None = None,
    ):
        if not known.flatten(1).any(dim=1).all():
            raise ValueError("No pixel of the flow is known: give tracks with points, static regions or a camera.")
        self.pipe, self.steering, self.code = pipe, steering, pipe.flow_adapter.code
        self.decode_chunk_size = decode_chunk_size
        self.wanted = self.code.to_images(flow)  # (B, F, 3, H, W)
        weight = equal_shares(known & points, known & ~points)
        self.weight = torch.cat([weight, weight[:, -1:]], dim=1)  # the last image repeats the one before

    def __call__(self, estimate: StepEstimate, sides: Sequence[VideoSide], i: int) -> Estimates:
        if i >= max(1, round(self.steering.guidance_steps * (len(sides[FLOW].sigmas) - 1))):
            return estimate(sides)
        return self.set_known(estimate(sides)) if self.steering.guidance == "replace" else self.descend(estimate, sides)

    def set_known(self, clean: Estimates) -> Estimates:
        """Estimates with the known pixels set.

        What changes is the difference of two encodings, so that the rest does not go through the autoencoder.
        """
        scale = self.code.scale
        latents = scale.denormalize(clean[FLOW])
        images = self.pipe.decode(latents, self.decode_chunk_size)
        changed = torch.where(self.weight > 0, self.wanted, images)
        change = self.pipe.encode_frames(changed) - self.pipe.encode_frames(images)
        return clean | {FLOW: scale.normalize(latents + self.steering.guidance_strength * change)}

    def descend(self, estimate: StepEstimate, sides: Sequence[VideoSide]) -> Estimates:
        """Estimates after some steps against the gradient."""
        through_network = self.steering.guidance == "gradient"
        sampled = [number for number, side in enumerate(sides) if not side.given]
        noisy = {number: sides[number].latents.detach().requires_grad_(through_network) for number in sampled}
        with torch.set_grad_enabled(through_network):
            latents = {number: noisy.get(number, side.latents) for number, side in enumerate(sides)}
            clean = estimate([replace(side, latents=latents[number]) for number, side in enumerate(sides)])
        steered = {number: x_0.detach() for number, x_0 in clean.items()}
        for _ in range(self.steering.guidance_iterations):
            error, gradient = self.decoder_gradient(steered[FLOW])
            directions = {FLOW: gradient}
            if through_network:
                unit = gradient / largest([gradient]).view(-1, 1, 1, 1, 1)  # for the range of float16
                pulled = torch.autograd.grad(clean[FLOW], list(noisy.values()), unit, retain_graph=True)
                directions = dict(zip(noisy, pulled, strict=True))
            length = 2 * error / norm([gradient]).clamp(min=1e-12)
            steered = self.move(steered, directions, self.steering.guidance_strength * length)
        return steered

    def decoder_gradient(self, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Weighted mean squared error (B,) of the images where they are known, and its gradient by the latents y."""
        F = y.shape[1]
        chunk = self.decode_chunk_size or F
        total = 3 * self.weight.flatten(1).sum(dim=1)
        y = y.detach().requires_grad_()
        error, gradient = 0, torch.zeros_like(y)
        for start in range(0, F, chunk):
            end = min(start + chunk, F)
            with torch.enable_grad():
                images = self.pipe.decode_chunk(self.code.scale.denormalize(y), start, end)
                missed = (images - self.wanted[:, start:end]).square() * self.weight[:, start:end]
                # Of the sum and not of the mean, whose gradient would vanish in a float16 decoder.
                gradient += torch.autograd.grad(missed.sum(), y)[0]
            error = error + missed.detach().flatten(1).sum(dim=1)
        return error / total, gradient / total.view(-1, 1, 1, 1, 1)

    def move(self, estimates: Estimates, directions: Estimates, length: torch.Tensor) -> Estimates:
        """Estimates moved against directions by a length (B,) over all sides, and no element by over its limit."""
        factor = (length / norm(directions.values()).clamp(min=1e-12)).minimum(
            LARGEST_CHANGE / largest(directions.values())
        )
        factor = factor.view(-1, 1, 1, 1, 1)
        return estimates | {number: estimates[number] - factor * part for number, part in directions.items()}


def equal_shares(some: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Weights (B, ...) in two masks that sum up to the same in both; 1 where only one mask has any pixel.

    They are near 1, for the range of float16.
    """
    counts = [mask.flatten(1).sum(dim=1).view(-1, *[1] * (mask.ndim - 1)) for mask in (some, others)]
    ratio = torch.where((counts[0] > 0) & (counts[1] > 0), counts[0] / counts[1].clamp(min=1), 1.0).sqrt()
    return some / ratio + ratio * others


def norm(parts) -> torch.Tensor:
    """Euclidean length (B,) over all parts (B, ...)."""
    return sum(part.flatten(1).square().sum(dim=1) for part in parts).sqrt()


def largest(parts) -> torch.Tensor:
    """Largest element (B,) of all parts (B, ...), never 0."""
    return torch.stack([part.flatten(1).abs().amax(dim=1) for part in parts]).amax(dim=0).clamp(min=1e-12)
