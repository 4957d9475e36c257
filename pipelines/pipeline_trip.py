"""Stable Video Diffusion with TRIP (`models/trip.py`): the image noise prior on every frame, the first frame beside them in time.

pipe = StableVideoDiffusionTripPipeline.from_pretrained("outputs/trip")     # as train_trip.py writes it
frames = pipe(image, fps=8).frames[0]                                       # PIL images; the first one is the image, through the autoencoder
"""

from typing import ClassVar

import torch

from models.trip import TripFusion
from models.trip_unet import TripCondition, TripDenoiser, TripUNet
from pipelines.adjustments import Adjustment
from pipelines.pipeline_stable_video_diffusion import StableVideoDiffusionEDMPipeline, VideoInputs
from utils.diffusion.edm import Denoiser
from utils.latents import encode_mode


class StableVideoDiffusionTripPipeline(StableVideoDiffusionEDMPipeline):
    """`StableVideoDiffusionEDMPipeline` whose UNet predicts a residual of the image noise prior.

    Args:
        fusion: Of prior and residual; a base without one is refused when it is called.
        others: As of `StableVideoDiffusionPipeline`.
    """

    _optional_components: ClassVar = ["fusion"]
    denoiser: ClassVar[type[Denoiser]] = TripDenoiser

    def __init__(self, vae, image_encoder, unet, scheduler, feature_extractor, fusion: TripFusion | None = None):
        super().__init__(vae, image_encoder, unet, scheduler, feature_extractor)
        self.register_modules(fusion=fusion)

    def prepare(self, *args, **kwargs) -> VideoInputs:
        """As of the base class; the condition has the first frame's clean latents besides.

        Raises:
            ValueError: There is no fusion, or an argument is out of its range.
        """
        if self.fusion is None:
            raise ValueError("This base has no TRIP fusion: train one with train_models/train_trip.py.")
        return super().prepare(*args, **kwargs)

    def tell(self, pixels: torch.Tensor, *others, **options) -> TripCondition:
        """The condition; arguments as of the base class."""
        condition = super().tell(pixels, *others, **options)
        with self.upcast_vae():
            first = encode_mode(self.vae, pixels)[:, None].float() * self.vae.config.scaling_factor
        return TripCondition.of(condition, first)

    def denoise(self, inputs: VideoInputs, adjust: Adjustment | None = None) -> torch.Tensor:
        """Clean latents (B, F, C, h, w), float32. With the prior the first frame is at every step exactly the one that is given."""
        if not self.fusion.form.prior:
            return super().denoise(inputs, adjust)
        first = inputs.condition.first

        def hold(x_0: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            held = torch.cat([first.to(x_0), x_0[:, 1:]], dim=1)
            return held if adjust is None else adjust(held, sigma)  # which leaves the first frame as it is

        return super().denoise(inputs, hold)

    def estimate(self, x_t, sigma, condition, guidance, unet=None) -> torch.Tensor:
        """As of the base class."""
        return super().estimate(x_t, sigma, condition, guidance, unet or TripUNet(self.unet, self.fusion))
