"""Stable Video Diffusion that follows a control picture for each frame, by a ControlNet (`models/svd_controlnet.py`).

pipe = StableVideoDiffusionControlNetPipeline.from_pretrained("weights/tiny_svd")
pipe.load_controlnet("outputs/trajectory")
frames = pipe(pixels[None], control=track_control(tracks)[None], image_frames=track_pictures(tracks, pixels)[None]).frames[0]
"""

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import torch
from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import (
    StableVideoDiffusionPipelineOutput,
)

from models.svd_controlnet import ControlledUNet, ControlNetSVD
from pipelines.adjustments import Adjustment, adjust_frames
from pipelines.pipeline_stable_video_diffusion import Generators, Images, StableVideoDiffusionEDMPipeline, VideoInputs
from utils.diffusion.sampling import VideoSampling
from utils.pretrained import loading


@dataclass(frozen=True)
class Control:
    """What the ControlNet reads, and when.

    Attributes:
        maps: (B, F, C, H, W), one for each video.
        conditioning_scale: Factor of the residuals; 0 is the base.
        start, end: Shares of the steps between which it acts.
        in_guidance: Whether the prediction without the image is also without the control, so that guidance strengthens both;
            by default both predictions have the control.
    """

    maps: torch.Tensor
    conditioning_scale: float = 1.0
    start: float = 0.0
    end: float = 1.0
    in_guidance: bool = False

    def __post_init__(self):
        if not 0 <= self.start < self.end <= 1:
            raise ValueError(f"The control acts from {self.start} to {self.end}: two shares, the first one smaller.")

    def acts(self, step: int, num_steps: int) -> bool:
        return self.conditioning_scale != 0 and self.start <= step / num_steps < self.end

    def rows(self, guided: bool) -> torch.Tensor:
        """Maps of all rows of a batch: of the prediction without the image, then of that with it."""
        if not guided:
            return self.maps
        return torch.cat([torch.zeros_like(self.maps) if self.in_guidance else self.maps, self.maps])


class StableVideoDiffusionControlNetPipeline(StableVideoDiffusionEDMPipeline):
    """`StableVideoDiffusionEDMPipeline` with a ControlNet, without which, or without a control, it is that pipeline."""

    _optional_components: ClassVar = ["controlnet"]

    def __init__(self, vae, image_encoder, unet, scheduler, feature_extractor, controlnet: ControlNetSVD | None = None):
        super().__init__(vae, image_encoder, unet, scheduler, feature_extractor)
        self.register_modules(controlnet=controlnet)

    def load_controlnet(self, path: str | Path) -> None:
        """Take the ControlNet of a folder, as a training writes it, or of the hub.

        Raises:
            FileNotFoundError: There is none.
            ValueError: It is for another base.
        """
        with loading(path):
            controlnet = ControlNetSVD.from_pretrained(path)
        controlnet.check_fit(self.unet, self.vae_scale_factor)
        self.register_modules(controlnet=controlnet.to(self.unet.device).type(self.unet.dtype).eval())

    @torch.no_grad()
    def __call__(
        self,
        image: Images,
        control: torch.Tensor | None = None,
        conditioning_scale: float = 1.0,
        control_guidance_start: float = 0.0,
        control_guidance_end: float = 1.0,
        guide_control: bool = False,
        decode_chunk_size: int | None = None,
        temporal_smoothing: float = 0.0,
        motion_scale: float = 1.0,
        output_type: str = "pil",
        return_dict: bool = True,
        num_frames: int | None = None,
        generator: Generators = None,
        latents: torch.Tensor | None = None,
        image_frames: torch.Tensor | None = None,
        **sampling,
    ):
        """Videos that begin with pictures and follow a control; arguments that are not listed are those of the base class.

        Args:
            control: (B, F, C, H, W) at the size of the pictures, or (1, …) for all of them; None for none.
            conditioning_scale: How strongly the ControlNet acts: 0 leaves the base, told image_frames if there are any; 1 is as trained.
            control_guidance_start, control_guidance_end: Shares of the steps between which it acts.
            guide_control: Whether guidance strengthens the control, too; for ControlNets that were trained with dropped controls.
            image_frames: Conditioning images of all frames in place of the first frame, (B, F, 3, H, W) in [-1, 1]; a ControlNet that was
                trained on moved images (`train_trajectory.py`) needs them.
            sampling: Fields of `VideoSampling`.

        Raises:
            ValueError: There is no ControlNet, or an argument is out of its range.
        """
        adjust = adjust_frames(temporal_smoothing, motion_scale)
        shares = control_guidance_start, control_guidance_end
        image_frames = self.check_frames(image, image_frames, num_frames)
        inputs = self.prepare(image, num_frames, VideoSampling(**sampling), generator, latents, image_frames)
        if control is not None:
            maps = self.check_control(control, inputs)
            control = Control(maps, conditioning_scale, *shares, guide_control)
        frames = self.denoise(inputs, adjust, control)
        if output_type != "latent":
            pixels = self.decode(frames, decode_chunk_size).transpose(1, 2)  # (B, 3, F, H, W)
            frames = self.video_processor.postprocess_video(pixels, output_type)
        self.maybe_free_model_hooks()
        return StableVideoDiffusionPipelineOutput(frames=frames) if return_dict else (frames,)

    @torch.no_grad()
    def denoise(
        self, inputs: VideoInputs, adjust: Adjustment | None = None, control: Control | None = None
    ) -> torch.Tensor:
        """Clean latents (B, F, C, h, w), float32; see the base class."""
        condition = inputs.guided_condition
        controlled = None if control is None else self._controlled(control, inputs.guidance is not None)
        x_t, solver, num_steps = inputs.x_t, inputs.solver, len(inputs.sigmas) - 1
        for step, (sigma, next_sigma) in enumerate(self.progress_bar(list(pairwise(inputs.sigmas)))):
            unet = controlled if control is not None and control.acts(step, num_steps) else None
            x_0 = self.estimate(x_t, sigma, condition, inputs.guidance, unet)
            x_0 = x_0 if adjust is None else adjust(x_0, sigma)
            x_t, solver = solver.step(x_t, x_0, sigma, next_sigma)
        return x_t

    def check_frames(self, image: Images, frames: torch.Tensor | None, num_frames: int | None) -> torch.Tensor | None:
        """image_frames of all videos on the device."""
        if frames is None:
            return None
        B, *size = self.check_pixels(image).shape
        due = (num_frames or self.unet.config.num_frames, *size)
        if frames.ndim != 5 or frames.shape[0] not in (1, B) or tuple(frames.shape[1:]) != due:
            raise ValueError(f"image_frames are {tuple(frames.shape)} and have to be {(B, *due)}: (B, F, 3, H, W).")
        return frames.float().to(self._execution_device).expand(B, *due)

    def check_control(self, control: torch.Tensor, inputs: VideoInputs) -> torch.Tensor:
        """The control of all videos, on their device and in the ControlNet's type."""
        if self.controlnet is None:
            raise ValueError("A control needs a ControlNet: call load_controlnet first.")
        B, F, _, h, w = inputs.x_t.shape
        factor = self.vae_scale_factor
        due = (F, self.controlnet.config.conditioning_channels, h * factor, w * factor)
        if control.ndim != 5 or control.shape[0] not in (1, B) or tuple(control.shape[1:]) != due:
            raise ValueError(f"The control is {tuple(control.shape)} and has to be {(B, *due)}: (B, F, C, H, W).")
        return control.to(inputs.x_t.device, self.controlnet.dtype).expand(B, *due)

    def _controlled(self, control: Control, guided: bool) -> partial:
        """Called as the UNet is."""
        return partial(
            ControlledUNet(self.unet, self.controlnet),
            control=control.rows(guided),
            conditioning_scale=control.conditioning_scale,
        )
