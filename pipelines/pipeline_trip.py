"""Stable Video Diffusion with TRIP (`models/trip.py`): the image noise prior on all frames, with the first frame.

pipe = StableVideoDiffusionTripPipeline.from_pretrained("outputs/trip")     # as train_trip.py writes it
frames = pipe(image, fps=8).frames[0]                                       # PIL images; the first: the image, decoded
"""

from dataclasses import replace
from typing import ClassVar

import torch

from models.trip import TripFusion
from models.trip_unet import TripCondition, TripDenoiser, TripUNet
from pipelines.pipeline_stable_video_diffusion import Images, StableVideoDiffusionEDMPipeline
from pipelines.video_inputs import VideoInputs
from utils.diffusion.sampling import VideoSampling


class StableVideoDiffusionTripPipeline(StableVideoDiffusionEDMPipeline):
    """`StableVideoDiffusionEDMPipeline` whose UNet predicts a residual of the image noise prior.

    Args:
        fusion: Of prior and residual; a base without one is refused when it is called.
        others: As of `StableVideoDiffusionPipeline`.
    """

    _optional_components: ClassVar = ["fusion"]

    def __init__(self, vae, image_encoder, unet, scheduler, feature_extractor, fusion: TripFusion | None = None):
        super().__init__(vae, image_encoder, unet, scheduler, feature_extractor)
        self.register_modules(fusion=fusion)

    @torch.no_grad()
    def prepare(self, image: Images, sampling: VideoSampling | None = None, **options) -> VideoInputs:
        """As of the base class. With the prior the first frame is at every step exactly the one that is given.

        Raises:
            ValueError: There is no fusion, or an argument is out of its range.
        """
        if self.fusion is None:
            raise ValueError("This base has no TRIP fusion: train one with train_models/train_trip.py.")
        inputs = super().prepare(image, sampling, **options)
        inputs = replace(inputs, denoiser=lambda i: TripDenoiser(TripUNet(self.unet, self.fusion)))
        if not self.fusion.form.prior:
            return inputs
        first = inputs.condition.first

        def hold(x_0: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            held = torch.cat([first.to(x_0), x_0[:, 1:]], dim=1)
            return (
                held if inputs.adjust is None else inputs.adjust(held, sigma)
            )  # which leaves the first frame as it is

        return replace(inputs, adjust=hold)

    def encode_condition(self, pixels: torch.Tensor, *others, **options) -> TripCondition:
        """As of the base class, with the clean latents of the first frame."""
        condition = super().encode_condition(pixels, *others, **options)
        return TripCondition.of(condition, self.encode_frames(pixels[:, None]))
