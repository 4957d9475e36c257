"""What the denoising of a video starts from; `prepare` of a pipeline makes it, and variants change what is theirs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from pipelines.adjustments import Adjustment
from pipelines.rows import Joint, Rows
from pipelines.sides import Estimates
from pipelines.video_sides import VideoSide
from utils.diffusion.edm import Denoiser
from utils.diffusion.guidance import UNCONDITIONAL, Guidance
from utils.diffusion.svd_condition import Condition

VIDEO, FLOW = 0, 1  # numbers of the sides
StepEstimate = Callable[[Sequence[VideoSide]], Estimates]  # clean latents of the sides that are sampled
OnStep = Callable[[int, int, Mapping[str | None, torch.Tensor]], None]
Steer = Callable[[StepEstimate, Sequence[VideoSide], int], Estimates]


@dataclass(frozen=True, eq=False)
class VideoInputs:
    """What the denoising of B videos starts from, and how their steps are made.

    Attributes:
        sides: The video, and what is sampled with it, before their first steps.
        conditions: Of each side, for B samples.
        guidance: From the predictions of a sample to one.
        denoiser: From an iteration to what predicts v in it: the UNet, or a network that is called as the UNet is, in
            a `Denoiser`.
        encode_condition: From images (B, F, 3, H, W), or None for the first frame alone, to the condition of that,
            with the same noise.
        negative_motion_bucket_id: Motion bucket of the unconditional prediction; None for the bucket of the
            conditional one.
        joint: Joint attention of the sides.
        steer: From what estimates the clean latents, the sides and the iteration to the estimates that the steps are
            made with; None for the plain estimates.
        adjust: Changes the estimate of the video after that (`pipelines/adjustments.py`).
        on_step: Called with the number of steps that are done, of how many, and the estimates (B, F, C, h, w) of the
            clean latents by the sides' names. What it raises ends the sampling.
        decode_chunk_size: Frames that are decoded at once; None for all of a video.
    """

    sides: tuple[VideoSide, ...]
    conditions: tuple[Condition, ...]
    guidance: Guidance
    denoiser: Callable[[int], Denoiser]
    encode_condition: Callable[[torch.Tensor | None], Condition]
    negative_motion_bucket_id: float | None = None
    joint: Joint = field(default_factory=Joint)
    steer: Steer | None = None
    adjust: Adjustment | None = None
    on_step: OnStep | None = None
    decode_chunk_size: int | None = None

    @property
    def video(self) -> VideoSide:
        return self.sides[VIDEO]

    @property
    def condition(self) -> Condition:
        """Of the video."""
        return self.conditions[VIDEO]

    @property
    def num_steps(self) -> int:
        return len(self.video.sigmas) - 1

    def condition_of(self, rows: Rows) -> Condition:
        """The condition of each row, by its side.

        In unconditional predictions it is without the image, and has the negative motion bucket.
        """
        free = torch.tensor([term == UNCONDITIONAL for _, term in rows.slots]).repeat_interleave(rows.batch)
        conditions = [self.conditions[side] for side, _ in rows.slots]
        return conditions[0].join(conditions).drop(free, self.negative_motion_bucket_id)

    def changed(self, estimate: StepEstimate, sides: Sequence[VideoSide], i: int) -> Estimates:
        """What the steps of iteration i are made with: the estimates, steered and adjusted."""
        clean = estimate(sides) if self.steer is None else self.steer(estimate, sides, i)
        if self.adjust is not None and VIDEO in clean:
            clean = clean | {VIDEO: self.adjust(clean[VIDEO], self.video.sigmas[i])}
        if self.on_step is not None:
            self.on_step(i + 1, self.num_steps, {self.sides[number].name: x_0 for number, x_0 in clean.items()})
        return clean


@dataclass(frozen=True, eq=False)
class FlowVideoInputs(VideoInputs):
    """`VideoInputs` of videos that are sampled together with their flow.

    Attributes:
        known: What is known of video and flow, pixels (B, F, 3, H, W) and (B, F - 1, 2, H, W) or None.
    """

    known: tuple[torch.Tensor | None, torch.Tensor | None] = (None, None)
