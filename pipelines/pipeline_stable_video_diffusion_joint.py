"""A video and its optical flow sampled together by Stable Video Diffusion with joint attention, both from the first
frame.

    video, flow ~ p(x, y);    flow ~ p(y | x);    video ~ p(x | y);    and videos that follow a flow coarsely

They differ in the noise level at which each side starts. A given side has the level 0 throughout. A pair is sampled at
once, or the flow first, from the first frame alone, and then the video conditioned on it: p(x, y) = p(y) p(x | y).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from diffusers.utils import BaseOutput

import patch
from pipelines.flow_adapter import ESTIMATION, STANDSTILL, FlowAdapter
from pipelines.inputs import image_batch
from pipelines.pipeline_stable_video_diffusion import Generators, Images, StableVideoDiffusionEDMPipeline
from pipelines.rows import Joint, default_direction
from pipelines.video_inputs import FLOW, VIDEO, FlowVideoInputs, VideoInputs
from pipelines.video_sides import VideoSide, check_strengths, start_video_side
from utils.commands.settings import check
from utils.diffusion.guidance import Guidance, guidance_over_frames
from utils.diffusion.one_step import ONE_STEP
from utils.diffusion.sampling import FlowSampling, VideoSampling
from utils.diffusion.solver import Solver
from utils.diffusion.svd_condition import Condition
from utils.flow.backward_flow import move_along
from utils.flow.code import FlowCode
from utils.weights.lora import is_lora, load_lora


@dataclass
class FlowVideoOutput(BaseOutput):
    """Videos and their flow.

    Attributes:
        frames: As of `StableVideoDiffusionEDMPipeline`.
        flows: float32 (B, F - 1, 2, H, W), pixels, x then y, from each frame to the next. With output_type "latent"
            latents (B, F, C, h, w).
    """

    frames: list | np.ndarray | torch.Tensor
    flows: torch.Tensor


class StableVideoDiffusionJointPipeline(StableVideoDiffusionEDMPipeline):
    """Stable Video Diffusion that samples videos together with their flow.

    pipe = StableVideoDiffusionJointPipeline.from_pretrained("weights/tiny_svd")
    pipe.load_flow_adapter("outputs/flow_video/flow.safetensors")
    out = pipe(image)     # out.frames[0], PIL images; out.flows[0], (F - 1, 2, H, W)
    """

    flow_adapter: FlowAdapter | None = None

    def load_flow_adapter(self, path, name: str | None = None) -> str:
        """Load a joint adapter of `train_flow_video.py` (see `patch.load`) and return its name.

        A LoRA of `train_svd_flow.py --objective one_step` estimates the flow of given videos in place of sampling.
        """
        estimates = is_lora(path)
        if self.flow_adapter is not None and (self.flow_adapter.one_step or estimates):
            raise ValueError(f"This pipeline has the adapter {self.flow_adapter.name}: load {path} into another one.")
        if estimates:
            adapter = FlowAdapter.from_lora(name or ONE_STEP, path)
            load_lora(self.unet, path, adapter.name)
            self.flow_adapter = adapter
            return adapter.name
        training = patch.read_config(path, name).get("training") or {}
        code = FlowCode.from_training(training)
        name = patch.load(self, path, name)["name"]
        self.flow_adapter = FlowAdapter.from_training(name, code, training)
        return name

    @torch.no_grad()
    def prepare(
        self,
        image: Images,
        sampling: VideoSampling | None = None,
        video: torch.Tensor | None = None,
        flow: torch.Tensor | None = None,
        *,
        video_strength: float | None = None,
        direction: str | None = None,
        weight: float = 1.0,
        num_frames: int | None = None,
        generator: Generators = None,
        flow_latents: torch.Tensor | None = None,
        **options,
    ) -> FlowVideoInputs:
        """As of `StableVideoDiffusionEDMPipeline`, with a flow. A flow that comes first is sampled here.

        Args:
            video: What is known of the videos: pixels (B, F, 3, H, W) in [-1, 1]. Where it is given, flow is sampled
                without classifier-free guidance, whatever `sampling` says.
            flow: What is known of the flow: (B, F - 1, 2, H, W) in pixels, x then y, from each frame to the next.
            video_strength: Share of the steps that a known video takes. 0, the default: it is given, and comes back
                as it is. Between: coarse control, from a partly noised start. 1: it is sampled anew.
            direction: "both", "x_reads_y" or "y_reads_x", x the video, of sides that are sampled at once; by default
                a given side does not read the other (unless the adapter was never trained so).
            weight: Of what each side reads from the other.
            flow_latents: As `latents`, of the flow.
            options: Fields of `FlowSampling`, and arguments of the base class. flow_first is by default where nothing
                is known of the video and no direction is asked for, if the adapter was trained to. `steer` guides the
                flow, where that is sampled.

        Raises:
            ValueError: What was passed cannot be sampled.
        """
        adapter = self.check_adapter()
        of_flow, options = FlowSampling.take(options)
        if adapter.one_step:
            adapter.check_unread(
                sampling=(sampling, VideoSampling()),
                sampling_of_flow=(of_flow, FlowSampling()),
                direction=(direction, None),
                weight=(weight, 1.0),
                generator=(generator, None),
                flow_latents=(flow_latents, None),
            )
            return self.prepare_estimate(image, video, flow, video_strength, num_frames=num_frames, **options)
        check("weight", weight)
        check("direction", direction, str, choices=patch.DIRECTIONS, optional=True)
        strengths = check_strengths(video, flow, video_strength, of_flow.flow_strength)
        flow_first = self.choose_order(of_flow, strengths, direction)
        pixels = self.check_pixels(image)
        video, flow, num_frames = self.check_known(pixels, video, flow, num_frames)
        inputs = super().prepare(pixels, sampling, num_frames=num_frames, generator=generator, **options)
        sides = self.prepare_sides(inputs, video, flow, strengths, generator, flow_latents, of_flow)
        if flow_first:
            scale = of_flow.flow_guidance_scale
            sides[FLOW] = self.sample_flow(inputs, sides, adapter.flow_guidance_scale if scale is None else scale)
            flow = self.decode_flow(sides[FLOW].latents, inputs.decode_chunk_size)
            inputs = replace(inputs, steer=None)
        guidance = Guidance() if sides[VIDEO].given else inputs.guidance
        changes = {
            "sides": tuple(sides),
            "conditions": (
                self.video_condition(inputs, pixels, flow, sides[FLOW]),
                self.flow_condition(inputs, sides[VIDEO]),
            ),
            "guidance": replace(guidance, joint_scale=of_flow.joint_guidance_scale),
            "joint": Joint({adapter.name: direction or self.choose_direction(sides)}, {adapter.name: weight}),
            "known": (video, flow),
        }
        return FlowVideoInputs(**vars(inputs) | changes)

    def prepare_estimate(self, image: Images, video, flow, video_strength: float | None, **options) -> FlowVideoInputs:
        """What the estimate of the flow of given videos starts from: the mean of the noise, 0, at the largest level.

        The step and the numbers of its condition are those of the training.
        """
        if video is None or flow is not None or video_strength:
            raise ValueError(
                "This adapter estimates the flow of a given video in one step: pass a video and no flow, or load a "
                "joint adapter of train_flow_video.py."
            )
        pixels = self.check_pixels(image)
        video, _, num_frames = self.check_known(pixels, video, None, options.pop("num_frames"))
        unread = torch.Generator().manual_seed(0)  # leaves the random state as it is
        inputs = super().prepare(pixels, ESTIMATION, num_frames=num_frames, generator=unread, **options)
        x_0, sigmas = self.encode_frames(video), inputs.video.sigmas
        given = VideoSide(None, x_0, sigmas, given=True)
        sides = given, VideoSide(self.flow_adapter.name, torch.zeros_like(x_0), sigmas)
        conditions = inputs.condition, self.flow_condition(inputs, given)
        return FlowVideoInputs(**vars(inputs) | {"sides": sides, "conditions": conditions, "known": (video, None)})

    def check_adapter(self) -> FlowAdapter:
        """Raises ValueError without one."""
        if self.flow_adapter is None:
            raise ValueError("There is no flow adapter: call pipe.load_flow_adapter, or set pipe.flow_adapter.")
        return self.flow_adapter

    def check_known(self, pixels: torch.Tensor, video, flow, num_frames: int | None) -> tuple:
        """Known sides as float32 on their device, and the number of frames, which they decide where there are any."""
        B, _, H, W = pixels.shape
        known = [len(part[0]) + extra for part, extra in ((video, 0), (flow, 1)) if part is not None and part.ndim == 5]
        num_frames = num_frames or (known[0] if known else self.unet.config.num_frames)
        check("num_frames", num_frames, int, low=2)
        for name, part, shape in (("video", video, (num_frames, 3)), ("flow", flow, (num_frames - 1, 2))):
            if part is not None and tuple(part.shape) != (B, *shape, H, W):
                raise ValueError(f"The {name} is {tuple(part.shape)} and has to be {(B, *shape, H, W)}.")
            if part is not None and not part.isfinite().all():
                raise ValueError(f"The {name} has values that are not finite: fill them in.")
        if video is not None:
            image_batch(video.flatten(0, 1), "The video")
        if flow is not None:
            self.check_speed(flow)
        device = self._execution_device
        return *(None if part is None else part.float().to(device) for part in (video, flow)), num_frames

    def check_speed(self, flow: torch.Tensor) -> None:
        """Raises ValueError for a flow that is faster than the adapter's flow images can hold."""
        self.check_adapter().code.check_speed(flow)

    def choose_direction(self, sides: Sequence[VideoSide]) -> str:
        """A given side does not read the other, if the adapter was trained so."""
        return default_direction(*(side.given for side in sides)) if self.flow_adapter.one_way else "both"

    def choose_order(self, of_flow: FlowSampling, strengths: Sequence[float], direction: str | None) -> bool:
        """Whether the flow is sampled before the video."""
        sampled = strengths[VIDEO] == 1 and strengths[FLOW] > 0
        possible = self.flow_adapter.flow_alone and sampled and direction is None
        if of_flow.flow_first and not possible:
            raise ValueError(
                "flow_first samples the flow from the image alone: leave it out, or use an adapter that was trained "
                "with --flow_alone_share and pass no known flow, no known video and no direction."
            )
        first = possible and of_flow.flow_first is not False
        if (scale := of_flow.flow_guidance_scale) is not None and not first:
            raise ValueError(
                f"flow_guidance_scale {scale:g} needs a flow that is sampled before its video: leave it out."
            )
        return first

    def sample_flow(self, inputs: VideoInputs, sides: Sequence[VideoSide], guidance_scale: float) -> VideoSide:
        """The flow sampled from the image alone, as a given side; the batch has no row of the video.

        guidance_scale: The same for all frames, away from a prediction that is conditioned neither on the image nor
            on any motion.
        """
        name, num_frames = self.flow_adapter.name, inputs.video.latents.shape[1]
        scales = guidance_over_frames(num_frames, guidance_scale, guidance_scale) if guidance_scale > 1 else None
        alone = replace(
            inputs,
            sides=(replace(sides[VIDEO], given=True), sides[FLOW]),
            conditions=(inputs.condition, inputs.condition),
            guidance=Guidance(scales),
            negative_motion_bucket_id=STANDSTILL,
            joint=Joint({name: "x_reads_y"}, {name: 1.0}),
        )
        return replace(self.denoise_sides(alone)[FLOW], given=True)

    def video_condition(self, inputs: VideoInputs, pixels, flow: torch.Tensor | None, side: VideoSide) -> Condition:
        """Condition of the video: the image, which a given flow warps if the adapter was trained so."""
        if not (side.given and self.flow_adapter.moved_image):
            return inputs.condition
        pixels = pixels.to(flow.device)
        return inputs.encode_condition(torch.stack([move_along(*clip) for clip in zip(pixels, flow, strict=True)]))

    def flow_condition(self, inputs: VideoInputs, side: VideoSide) -> Condition:
        """Condition of the flow: the image, or all frames of a given video if the adapter was trained so.

        These are without noise, as in the training.
        """
        if not (side.given and (self.flow_adapter.seen_video or self.flow_adapter.one_step)):
            return inputs.condition
        return inputs.condition.with_frames(side.latents, self.vae.config.scaling_factor)

    def prepare_sides(
        self,
        inputs: VideoInputs,
        video,
        flow,
        strengths: Sequence[float],
        generator,
        flow_latents,
        of_flow: FlowSampling,
    ) -> list[VideoSide]:
        """Video and flow at their first noise levels."""
        code, start = self.flow_adapter.code, inputs.video
        x_0 = None if video is None else self.encode_frames(video)
        y_0 = None if flow is None else code.scale.normalize(self.encode_frames(code.to_images(flow)))
        noise = self.scaled_noise(inputs.condition, generator, flow_latents)
        solvers = start.solver, Solver(of_flow.flow_solver_order)
        return [
            start_video_side(None, start.sigmas, start.latents, strengths[VIDEO], x_0, solvers[VIDEO]),
            start_video_side(self.flow_adapter.name, start.sigmas, noise, strengths[FLOW], y_0, solvers[FLOW]),
        ]

    def output(self, inputs: FlowVideoInputs, sides: Sequence[VideoSide], output_type: str) -> FlowVideoOutput:
        """Frames and flow; what was given is the very values that were passed."""
        x, y = (side.latents for side in sides)
        if output_type == "latent":
            return FlowVideoOutput(x, y)
        video, flow = inputs.known
        pixels = video if sides[VIDEO].given else self.decode(x, inputs.decode_chunk_size)
        flow = flow if sides[FLOW].given else self.decode_flow(y, inputs.decode_chunk_size)
        return FlowVideoOutput(self.postprocess(pixels, output_type), flow)

    def decode_flow(self, y: torch.Tensor, decode_chunk_size: int | None) -> torch.Tensor:
        """Flow (B, F - 1, 2, H, W), pixels, of clean latents of that side."""
        code = self.flow_adapter.code
        return code.to_flow(self.decode(code.scale.denormalize(y), decode_chunk_size))
