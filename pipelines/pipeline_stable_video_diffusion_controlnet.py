"""Stable Video Diffusion that follows control maps, one for each frame, by ControlNets (`models/svd_controlnet.py`).

pipe = StableVideoDiffusionControlNetPipeline.from_pretrained("weights/tiny_svd")
pipe.load_controlnet("outputs/depth_controlnet")
frames = pipe(pixels, control, conditioning_scale=0.8).frames[0]       # pixels (B, 3, H, W), control (B, F, C, H, W)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch

from models.svd_controlnet import ControlNetSVD
from models.unet_residuals import add_residuals
from pipelines.pipeline_stable_video_diffusion import Images, StableVideoDiffusionEDMPipeline
from pipelines.video_inputs import VideoInputs
from utils.commands.settings import check
from utils.diffusion.edm import Denoiser
from utils.diffusion.sampling import VideoSampling
from utils.pretrained import loading


@dataclass(frozen=True, eq=False)
class Control:
    """What a ControlNet reads, and when.

    Attributes:
        controlnet: The one that reads it.
        maps: (B, F, C, H, W), one for each video.
        conditioning_scale: Factor of the residuals; 0 is the base.
        start, end: Shares of the steps between which it acts.
        in_guidance: Whether the unconditional prediction is also without the control, so that guidance strengthens
            both; by default both predictions have the control.
    """

    controlnet: ControlNetSVD
    maps: torch.Tensor
    conditioning_scale: float = 1.0
    start: float = 0.0
    end: float = 1.0
    in_guidance: bool = False

    def __post_init__(self):
        check("conditioning_scale", self.conditioning_scale)
        if not 0 <= self.start < self.end <= 1:
            raise ValueError(
                f"The control acts from {self.start} to {self.end}: pass two shares, the first one smaller."
            )

    def acts(self, step: int, num_steps: int) -> bool:
        return self.conditioning_scale != 0 and self.start <= step / num_steps < self.end

    def residuals(self, *inputs: torch.Tensor):
        """Residuals for all rows of a batch, from the UNet's inputs; unconditional predictions come first."""
        guided = len(inputs[0]) > len(self.maps)
        free = torch.zeros_like(self.maps) if self.in_guidance else self.maps
        maps = torch.cat([free, self.maps]) if guided else self.maps
        return self.controlnet(*inputs, maps).scaled(self.conditioning_scale)


def controlled(unet, controls: Sequence[Control], num_steps: int) -> Callable[[int], Denoiser]:
    """From an iteration to the UNet with the residuals of all controls that act in it, summed."""

    def denoiser(i: int) -> Denoiser:
        residuals = [control.residuals for control in controls if control.acts(i, num_steps)]
        return Denoiser(partial(add_residuals, unet, residuals) if residuals else unet)

    return denoiser


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
    def prepare(
        self,
        image: Images,
        sampling: VideoSampling | None = None,
        control: torch.Tensor | None = None,
        *,
        conditioning_scale: float = 1.0,
        control_guidance_start: float = 0.0,
        control_guidance_end: float = 1.0,
        guide_control: bool = False,
        **options,
    ) -> VideoInputs:
        """As of `StableVideoDiffusionEDMPipeline`, with a control.

        Args:
            control: (B, F, C, H, W) at the size of the images, or (1, F, C, H, W) for all of them; None for none.
            conditioning_scale: Factor of the ControlNet's residuals: 1 is as trained; 0 leaves the base.
            control_guidance_start, control_guidance_end: Shares of the steps between which it acts.
            guide_control: Whether guidance strengthens the control, too; for ControlNets that were trained with
                dropped controls.
            options: Of the base class. A ControlNet that was trained on warped images (`train_trajectory.py`) needs
                them as `image_frames`.

        Raises:
            ValueError: There is no ControlNet, or an argument is out of its range.
        """
        if control is not None and self.controlnet is None:
            raise ValueError("A control needs a ControlNet: call load_controlnet first.")
        inputs = super().prepare(image, sampling, **options)
        if control is None:
            return inputs
        shares = control_guidance_start, control_guidance_end
        maps = self.check_control(control, inputs)
        controls = (Control(self.controlnet, maps, conditioning_scale, *shares, guide_control),)
        return replace(inputs, denoiser=controlled(self.unet, controls, inputs.num_steps))

    def check_control(self, control: torch.Tensor, inputs: VideoInputs) -> torch.Tensor:
        """The control of all videos, on their device and in the ControlNet's type."""
        B, F, _, h, w = inputs.video.latents.shape
        factor = self.vae_scale_factor
        due = (B, F, self.controlnet.config.conditioning_channels, h * factor, w * factor)
        if control.ndim != 5 or control.shape[0] not in (1, B) or tuple(control.shape[1:]) != due[1:]:
            raise ValueError(f"The control is {tuple(control.shape)} and has to be {due}: (B, F, C, H, W).")
        if not control.isfinite().all():
            raise ValueError("The control has values that are not finite: replace them.")
        return control.to(inputs.video.latents.device, self.controlnet.dtype).expand(due)
