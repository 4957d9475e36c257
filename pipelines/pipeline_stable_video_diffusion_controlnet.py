"""Stable Video Diffusion that follows control maps, one for each frame, by ControlNets (`models/svd_controlnet.py`).

pipe = StableVideoDiffusionControlNetPipeline.from_pretrained("weights/tiny_svd")
pipe.load_controlnet("outputs/depth_controlnet")
frames = pipe(pixels, control).frames[0]       # pixels (B, 3, H, W), control (B, F, C, H, W)

Several: pipe.load_controlnet("outputs/depth", "outputs/flow"), and lists of controls and of scales.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch

from models.multi_controlnet import MultiControlNetSVD, list_controlnets
from models.svd_controlnet import ControlNetSVD
from models.unet_residuals import add_residuals
from pipelines.pipeline_stable_video_diffusion import Images, StableVideoDiffusionEDMPipeline
from pipelines.video_inputs import VideoInputs
from utils.commands.settings import check
from utils.diffusion.edm import Denoiser
from utils.diffusion.sampling import VideoSampling
from utils.messages.words import count
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
        check("controlnet_conditioning_scale", self.conditioning_scale)
        check_window(self.start, self.end)

    def acts(self, step: int, num_steps: int) -> bool:
        return self.conditioning_scale != 0 and self.start <= step / num_steps < self.end

    def residuals(self, *inputs: torch.Tensor):
        """Residuals for all rows of a batch, from the UNet's inputs; unconditional predictions come first."""
        guided = len(inputs[0]) > len(self.maps)
        free = torch.zeros_like(self.maps) if self.in_guidance else self.maps
        maps = torch.cat([free, self.maps]) if guided else self.maps
        return self.controlnet(*inputs, maps).scaled(self.conditioning_scale)


def check_window(start: float, end: float) -> None:
    """Raises ValueError unless a control can act between two shares of the steps."""
    if not 0 <= start < end <= 1:
        raise ValueError(f"The control acts from {start} to {end}: pass two shares, the first one smaller.")


def controlled(unet, controls: Sequence[Control], num_steps: int) -> Callable[[int], Denoiser]:
    """From an iteration to the UNet with the residuals of all controls that act in it, summed."""

    def denoiser(i: int) -> Denoiser:
        residuals = [control.residuals for control in controls if control.acts(i, num_steps)]
        return Denoiser(partial(add_residuals, unet, residuals) if residuals else unet)

    return denoiser


class StableVideoDiffusionControlNetPipeline(StableVideoDiffusionEDMPipeline):
    """`StableVideoDiffusionEDMPipeline` with ControlNets, without which, or without a control, it is that pipeline."""

    _optional_components: ClassVar = ["controlnet"]

    def __init__(
        self,
        vae,
        image_encoder,
        unet,
        scheduler,
        feature_extractor,
        controlnet: ControlNetSVD | MultiControlNetSVD | None = None,
    ):
        super().__init__(vae, image_encoder, unet, scheduler, feature_extractor)
        self.register_modules(controlnet=controlnet)

    def load_controlnet(self, *paths: str | Path) -> None:
        """Take the ControlNets of one or more folders, as a training writes them, or of the hub.

        Raises:
            FileNotFoundError: There is none.
            ValueError: One is for another base.
        """
        controlnets = [self._load(path) for path in paths]
        self.register_modules(controlnet=controlnets[0] if len(paths) == 1 else MultiControlNetSVD(controlnets))

    def _load(self, path: str | Path) -> ControlNetSVD:
        with loading(path):
            controlnet = ControlNetSVD.from_pretrained(path)
        controlnet.check_fit(self.unet, self.vae_scale_factor)
        return controlnet.to(self.unet.device).type(self.unet.dtype).eval()

    def start_controlnet(self, conditioning_channels: int, conditioning_type: str, path: str | None = None) -> None:
        """Take the ControlNet that a training begins with: that of a folder or hub name, or a copy of the base.

        Raises:
            ValueError: The one that is loaded reads another control.
        """
        if path is None:
            known = conditioning_channels, self.vae_scale_factor, conditioning_type
            self.register_modules(controlnet=ControlNetSVD.from_unet(self.unet, *known))
            return
        self.load_controlnet(path)
        channels, kind = self.controlnet.config.conditioning_channels, self.controlnet.config.conditioning_type
        if channels != conditioning_channels or kind not in (None, conditioning_type):
            reads = f"{kind or 'an unnamed control'} of {count(channels, 'channel')}"
            due = f"{conditioning_type} have {conditioning_channels}"
            raise ValueError(f"The ControlNet {path} reads {reads}, and {due}: pass another one, or none.")

    @torch.no_grad()
    def prepare(
        self,
        image: Images,
        sampling: VideoSampling | None = None,
        control: torch.Tensor | Sequence[torch.Tensor] | None = None,
        *,
        controlnet_conditioning_scale: float | Sequence[float] = 1.0,
        control_guidance_start: float | Sequence[float] = 0.0,
        control_guidance_end: float | Sequence[float] = 1.0,
        guide_control: bool = False,
        **options,
    ) -> VideoInputs:
        """As of `StableVideoDiffusionEDMPipeline`, with a control for each ControlNet.

        Args:
            control: (B, F, C, H, W) at the size of the images, or (1, F, C, H, W) for all of them; a list of such, one
                for each ControlNet, where there are several; None for none.
            controlnet_conditioning_scale: Factor of the residuals: 1 is as trained; 0 leaves the base. This and the
                next two are one value for all ControlNets, or a list with one for each.
            control_guidance_start, control_guidance_end: Shares of the steps between which they act.
            guide_control: Whether guidance strengthens the control, too; for ControlNets that were trained with
                dropped controls.
            options: Of the base class. A ControlNet that was trained on warped images (`train_trajectory.py`) needs
                them as `image_frames`.

        Raises:
            ValueError: There is no ControlNet, or an argument is out of its range.
        """
        nets = list_controlnets(self.controlnet)
        if control is not None and not nets:
            raise ValueError("A control needs a ControlNet: call load_controlnet first.")
        inputs = super().prepare(image, sampling, **options)
        if control is None:
            return inputs
        controls = [control] if isinstance(control, torch.Tensor) else list(control)
        if len(controls) != len(nets):
            raise ValueError(f"{count(len(controls), 'control')} for {count(len(nets), 'ControlNet')}: pass one each.")
        maps = [self.check_control(one, net, inputs) for one, net in zip(controls, nets, strict=True)]
        settings = [
            one_each(value, len(nets), name)
            for name, value in (
                ("controlnet_conditioning_scale", controlnet_conditioning_scale),
                ("control_guidance_start", control_guidance_start),
                ("control_guidance_end", control_guidance_end),
            )
        ]
        acting = [Control(*one, guide_control) for one in zip(nets, maps, *settings, strict=True)]
        return replace(inputs, denoiser=controlled(self.unet, acting, inputs.num_steps))

    def check_control(self, control: torch.Tensor, controlnet: ControlNetSVD, inputs: VideoInputs) -> torch.Tensor:
        """The control of all videos, on their device and in the ControlNet's type."""
        B, F, _, h, w = inputs.video.latents.shape
        factor = self.vae_scale_factor
        due = (B, F, controlnet.config.conditioning_channels, h * factor, w * factor)
        if control.ndim != 5 or control.shape[0] not in (1, B) or tuple(control.shape[1:]) != due[1:]:
            raise ValueError(f"The control is {tuple(control.shape)} and has to be {due}: (B, F, C, H, W).")
        if not control.isfinite().all():
            raise ValueError("The control has values that are not finite: replace them.")
        return control.to(inputs.video.latents.device, controlnet.dtype).expand(due)


def one_each(value: float | Sequence[float], number: int, name: str) -> list[float]:
    """A value for each of several ControlNets.

    Raises:
        ValueError: There are neither one nor so many.
    """
    values = list(value) if isinstance(value, list | tuple) else [value]
    if len(values) not in (1, number):
        raise ValueError(f"{name} has {count(len(values), 'value')} for {count(number, 'ControlNet')}: pass one each.")
    return values * number if len(values) == 1 else values
