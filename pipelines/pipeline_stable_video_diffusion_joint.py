"""A video and its optical flow drawn together by Stable Video Diffusion with joint attention, both from the first image.

    video, flow ~ p(x, y);    flow ~ p(y | x);    video ~ p(x | y);    and videos that follow a flow coarsely

One loop serves all; they differ in the noise level at which each side starts. A given side has the level 0 throughout. A pair is drawn together, or
the flow first, from the image alone, and then the video that it is given for: p(x, y) = p(y) p(x | y).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from diffusers.utils import BaseOutput

import patch
from pipelines.flow_adapter import FlowAdapter
from pipelines.pipeline_stable_video_diffusion import (
    Generators,
    Images,
    StableVideoDiffusionEDMPipeline,
    VideoInputs,
    check_numbers,
)
from pipelines.rows import FREE, Rows, constant_sides, default_direction, lay_out_rows, paired
from pipelines.video_sides import VideoSide, check_strength, start_video_side
from utils.diffusion.condition import Condition
from utils.diffusion.edm import Denoiser
from utils.diffusion.guidance import FrameGuidance, guidance_over_frames
from utils.diffusion.sampling import split_sampling
from utils.diffusion.solver import Solver
from utils.flow.backward_flow import move_along
from utils.flow.code import FlowCode
from utils.latents import ENCODED_TOGETHER

VIDEO, FLOW = 0, 1  # numbers of the sides
STANDSTILL = 0  # motion bucket
OUTPUT_TYPES = ("pil", "np", "pt", "latent")
Estimate = Callable[[list[VideoSide]], dict[int, torch.Tensor]]  # clean latents of the sides that are drawn, by number
Steer = Callable[[Estimate, list[VideoSide], int], dict[int, torch.Tensor]]


@dataclass
class FlowVideoOutput(BaseOutput):
    """
    Attributes:
        frames: As of `StableVideoDiffusionEDMPipeline`.
        flows: float32 (B, F - 1, 2, H, W), pixels, x then y, from each frame to the next. With output_type "latent" latents
            (B, F, C, h, w).
    """

    frames: list | np.ndarray | torch.Tensor
    flows: torch.Tensor


class StableVideoDiffusionJointPipeline(StableVideoDiffusionEDMPipeline):
    """Stable Video Diffusion that draws videos together with their flow.

    pipe = StableVideoDiffusionJointPipeline.from_pretrained("weights/tiny_svd")
    pipe.load_flow_adapter("outputs/flow_video/flow.safetensors")
    out = pipe(image)     # out.frames[0], PIL pictures; out.flows[0], (F - 1, 2, H, W)
    """

    flow_adapter: FlowAdapter | None = None

    def load_flow_adapter(self, path, name: str | None = None) -> str:
        """Loads a joint adapter of `train_flow_video.py` (see `patch.load`) and returns its name."""
        training = patch.read_config(path, name).get("training") or {}
        code = FlowCode.from_training(training)
        name = patch.load(self, path, name)["name"]
        self.flow_adapter = FlowAdapter.from_training(name, code, training)
        return name

    @torch.no_grad()
    def __call__(
        self,
        image: Images,
        video: torch.Tensor | None = None,
        flow: torch.Tensor | None = None,
        video_strength: float | None = None,
        num_frames: int | None = None,
        direction: str | None = None,
        weight: float = 1.0,
        decode_chunk_size: int | None = None,
        generator: Generators = None,
        latents: torch.Tensor | None = None,
        flow_latents: torch.Tensor | None = None,
        output_type: str = "pil",
        steer: Steer | None = None,
        **sampling,
    ) -> FlowVideoOutput:
        """Videos with their flow that begin with pictures.

        Args:
            image: As of `StableVideoDiffusionEDMPipeline`, like all arguments that are not named here.
            video: What is known of the videos: pixels (B, F, 3, H, W) in [-1, 1].
            flow: What is known of the flow: (B, F - 1, 2, H, W) in pixels, x then y, from each frame to the next.
            video_strength: Share of the steps that a known video takes. 0, the default: it is given, and comes back as it is. Between: coarse
                control, from a partly noised start. 1: it is sampled anew.
            direction: "both", "x_reads_y" or "y_reads_x", x the video, of sides that are drawn together; by default a given side does not
                read the other (unless the adapter was never trained so).
            weight: Of what each side reads from the other.
            latents, flow_latents: Standard normal noise (B, F, C, h, w) to start from.
            steer: Called at each step in which the flow is drawn with what estimates the clean latents, the sides and the iteration; returns the estimates
                that the step is made with (`pipelines/steering.py`).
            sampling: Fields of `VideoSampling` and of `FlowSampling`. flow_first is by default where nothing is known of the video and no direction
                is asked for, if the adapter was trained to.

        Raises:
            ValueError: What was passed cannot be drawn.
        """
        adapter = self.check_adapter()
        sampling, of_flow = split_sampling(sampling)
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"output_type={output_type!r} is unknown: choose one of {', '.join(OUTPUT_TYPES)}.")
        strengths = [
            check_strength("video", video, video_strength),
            check_strength("flow", flow, of_flow.flow_strength),
        ]
        flow_first = self.choose_order(of_flow.flow_first, strengths, direction)
        if (flow_scale := of_flow.flow_guidance_scale) is not None and not flow_first:
            raise ValueError(f"flow_guidance_scale={flow_scale:g} is of flow that is drawn before its video.")
        video, flow, num_frames = self.check_known(image, video, flow, num_frames)
        if strengths == [0, 0]:
            raise ValueError("Video and flow are both given and nothing is left to draw: raise a strength above 0.")
        inputs = self.prepare(image, num_frames, sampling, generator, latents)
        solver = Solver(of_flow.flow_solver_order)
        sides = self.prepare_sides(inputs, video, flow, strengths, generator, flow_latents, solver)
        if flow_first:
            flow_scale = adapter.flow_guidance_scale if flow_scale is None else flow_scale
            sides[FLOW] = self.draw_flow(inputs, sides, flow_scale, steer)
            flow, steer = self.decode_flow(sides[FLOW].latents, decode_chunk_size), None
        conditions = [self.tell_video(inputs, image, flow, sides[FLOW]), inputs.condition]
        directions = {adapter.name: direction or self.choose_direction(sides)}
        scale = of_flow.joint_guidance_scale
        sides = self.denoise_sides(inputs, sides, conditions, directions, {adapter.name: weight}, scale, steer)
        output = self.decode_sides(sides, video, flow, decode_chunk_size, output_type)
        self.maybe_free_model_hooks()
        return output

    def check_adapter(self) -> FlowAdapter:
        if self.flow_adapter is None:
            raise ValueError("There is no flow adapter: call pipe.load_flow_adapter, or set pipe.flow_adapter.")
        return self.flow_adapter

    def check_known(self, image, video, flow, num_frames) -> tuple:
        """Known sides as float32 and the number of frames, which they decide where there are any."""
        pixels = self.check_pixels(image)
        B, _, H, W = pixels.shape
        known = [len(part[0]) + extra for part, extra in ((video, 0), (flow, 1)) if part is not None and part.ndim == 5]
        num_frames = num_frames or (known[0] if known else self.unet.config.num_frames)
        for name, part, shape in (("video", video, (num_frames, 3)), ("flow", flow, (num_frames - 1, 2))):
            if part is not None and tuple(part.shape) != (B, *shape, H, W):
                raise ValueError(f"The {name} is to be {(B, *shape, H, W)} and is {tuple(part.shape)}.")
            if part is not None and not part.isfinite().all():
                raise ValueError(f"The {name} has values that are not finite: fill them in.")
        check_numbers(frames_after_the_first=num_frames - 1)
        return *(
            None if part is None else part.float().to(self._execution_device) for part in (video, flow)
        ), num_frames

    def choose_direction(self, sides: list[VideoSide]) -> str:
        """A given side does not read the other, if the adapter was trained so."""
        return default_direction(*(side.given for side in sides)) if self.flow_adapter.one_way else "both"

    def choose_order(self, flow_first: bool | None, strengths: Sequence[float], direction: str | None) -> bool:
        """Whether the flow is drawn before the video."""
        drawn = strengths[VIDEO] == 1 and strengths[FLOW] > 0
        possible = self.flow_adapter.flow_alone and drawn and direction is None
        if flow_first and not possible:
            raise ValueError(
                "flow_first draws the flow by the image alone and then the video: it takes an adapter that was trained with "
                "--flow_alone_share, a flow that is not given, nothing that is known of the video, and no direction."
            )
        return possible and flow_first is not False

    def draw_flow(
        self, inputs: VideoInputs, sides: list[VideoSide], guidance_scale: float, steer: Steer | None
    ) -> VideoSide:
        """The flow drawn by the image alone, as a given side: no row of the network is of the video."""
        unread = [replace(sides[VIDEO], given=True), sides[FLOW]]
        name = self.flow_adapter.name
        conditions = [inputs.condition, inputs.condition]
        num_frames = inputs.x_t.shape[1]
        scales = guidance_over_frames(num_frames, guidance_scale, guidance_scale)
        guidance = FrameGuidance(scales) if guidance_scale > 1 else None
        inputs = replace(inputs, guidance=guidance, negative_motion_bucket_id=STANDSTILL)
        drawn = self.denoise_sides(inputs, unread, conditions, {name: "x_reads_y"}, {name: 1.0}, steer=steer)
        return replace(drawn[FLOW], given=True)

    def tell_video(self, inputs: VideoInputs, image: Images, flow: torch.Tensor | None, side: VideoSide) -> Condition:
        """What the video is told: the image, or with a given flow the image as that moves it."""
        if not (side.given and self.flow_adapter.moved_picture):
            return inputs.condition
        pixels = self.check_pixels(image).to(flow.device)
        return inputs.tell(torch.stack([move_along(*clip) for clip in zip(pixels, flow, strict=True)]))

    def decode_flow(self, y: torch.Tensor, decode_chunk_size: int | None) -> torch.Tensor:
        """Flow (B, F - 1, 2, H, W), pixels, of clean latents of that side."""
        code = self.flow_adapter.code
        return code.to_flow(self.decode(code.scale.denormalize(y), decode_chunk_size))

    def prepare_sides(
        self, inputs: VideoInputs, video, flow, strengths, generator, flow_latents, flow_solver: Solver
    ) -> list[VideoSide]:
        """Video and flow at their first noise levels."""
        code, sigmas = self.flow_adapter.code, inputs.sigmas
        x_0 = None if video is None else self.encode_frames(video)
        y_0 = None if flow is None else code.scale.normalize(self.encode_frames(code.to_pictures(flow)))
        noise = self.draw_flow_noise(inputs, generator, flow_latents)
        return [
            start_video_side(None, sigmas, inputs.x_t, strengths[0], x_0, inputs.solver),
            start_video_side(self.flow_adapter.name, sigmas, noise, strengths[1], y_0, flow_solver),
        ]

    def draw_flow_noise(self, inputs: VideoInputs, generator, flow_latents) -> torch.Tensor:
        """Noise at the largest level, as the video's but drawn after it."""
        B, F, _, h, w = inputs.x_t.shape
        shape = (B, F, 2 * self.vae.config.latent_channels, h * self.vae_scale_factor, w * self.vae_scale_factor)
        dtype = inputs.condition.image_embeddings.dtype
        return self.prepare_latents(*shape, dtype, inputs.x_t.device, generator, flow_latents).float()

    def encode_frames(self, frames: torch.Tensor) -> torch.Tensor:
        """Scaled latents (B, F, C, h, w), float32, of pictures (B, F, 3, H, W): the mode of the posterior."""
        with self.upcast_vae():
            parts = [part.to(self.vae.dtype) for clip in frames for part in clip.split(ENCODED_TOGETHER)]
            latents = torch.cat([self.vae.encode(part).latent_dist.mode() for part in parts])
        return latents.float().unflatten(0, frames.shape[:2]) * self.vae.config.scaling_factor

    def denoise_sides(
        self,
        inputs: VideoInputs,
        sides: list[VideoSide],
        conditions: list[Condition],
        directions: dict[str, str],
        weights: dict[str, float],
        joint_guidance_scale: float = 0.0,
        steer: Steer | None = None,
    ) -> list[VideoSide]:
        """The sides after all steps, each under its condition; one that is given and reads nothing is run once."""
        scales = inputs.guidance, joint_guidance_scale
        guides = inputs.guidance is not None, joint_guidance_scale != 0
        rows = lay_out_rows(sides, len(inputs.x_t), *guides, directions)
        condition = lay_out_conditions(conditions, rows, inputs.negative_motion_bucket_id)
        with paired(self.unet, rows, sides, weights, directions):
            rows, condition = self.run_constant(sides, rows, condition, directions)
            start = min(side.start for side in sides if not side.given)
            levels = list(enumerate(pairwise(inputs.sigmas)))[start:]
            for i, (_, next_sigma) in self.progress_bar(levels):
                estimate = partial(self.estimate_sides, rows=rows, condition=condition, i=i, scales=scales)
                clean = estimate(sides) if steer is None else steer(estimate, sides, i)
                sides = [
                    side.step(clean[number], i, next_sigma) if number in clean else side
                    for number, side in enumerate(sides)
                ]
        return sides

    def estimate_sides(self, sides, rows: Rows, condition: Condition, i: int, scales) -> dict[int, torch.Tensor]:
        """Guided estimates of the clean latents of the sides that have rows, by their numbers."""
        terms = rows.split(self.predict(sides, rows, condition, i))
        return {number: sides[number].estimate(parts, i, *scales) for number, parts in terms.items()}

    def run_constant(self, sides, rows: Rows, condition: Condition, directions) -> tuple[Rows, Condition]:
        """Runs once what is the same at every step, and returns the rows and the condition of what is not."""
        constant = constant_sides(sides, rows, directions)
        if not constant:
            return rows, condition
        drawn = [i for i in range(len(sides)) if i not in constant]
        places = rows.places(constant)
        with patch.record(self.unet, places):
            self.predict(sides, rows.of(constant), condition.take(places), 0)
        return rows.of(drawn), condition.take(rows.places(drawn))

    def predict(self, sides: list[VideoSide], rows: Rows, condition: Condition, i: int) -> torch.Tensor:
        """v of all rows, each side at its own noise level."""
        x_t = rows.cat([side.latents for side in sides])
        sigma = rows.cat([side.level(i) for side in sides])
        return Denoiser(self.unet).predict(x_t, sigma, condition)

    def decode_sides(self, sides, video, flow, decode_chunk_size, output_type: str) -> FlowVideoOutput:
        """Frames and flow; what was given is the very values that were passed."""
        x, y = (side.latents for side in sides)
        if output_type == "latent":
            return FlowVideoOutput(x, y)
        pixels = video if sides[0].given else self.decode(x, decode_chunk_size)
        if not sides[1].given:
            flow = self.decode_flow(y, decode_chunk_size)
        return FlowVideoOutput(self.video_processor.postprocess_video(pixels.transpose(1, 2), output_type), flow)


def lay_out_conditions(conditions: list[Condition], rows: Rows, negative_motion_bucket_id: float | None) -> Condition:
    """Of all rows, by the side of each: without the image, and with that bucket, where a term of the guidance is free of it."""
    free = torch.tensor([term == FREE for _, term in rows.slots]).repeat_interleave(rows.batch)
    return Condition.join([conditions[side] for side, _ in rows.slots]).drop(free, negative_motion_bucket_id)
