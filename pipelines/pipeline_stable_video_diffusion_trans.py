"""Videos between a first and a last frame, by Stable Video Diffusion.

pipe = StableVideoDiffusionTransPipeline.from_pretrained("weights/tiny_svd")
pipe.load_adapter("outputs/svd_trans")             # without it, training-free
frames = pipe(first, last, num_frames=8).frames[0]     # PIL images

trained        A UNet that is conditioned on both frames, and between them on a guess, by default both interpolated by
               optical flow (`models/unet_spatio_temporal_condition.py`).
training-free  Any UNet of Stable Video Diffusion predicts the video from its first frame, and the video reversed in
               time from its last one; the predictions are averaged, with most of the weight on the one of the nearer
               frame. Steps at middle noise levels can be repeated with part of the noise drawn anew, so
               that both come to agree (after Time Reversal Fusion, arXiv 2403.14611, and Generative Inbetweening, arXiv
               2408.15239).

In both the estimates of the known frames are replaced by their latents at each step, and in the result by the images
themselves.
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import (
    StableVideoDiffusionPipelineOutput,
)
from diffusers.utils.torch_utils import randn_tensor

from models.unet_spatio_temporal_condition import UNetSpatioTemporalMaskedConditionModel, load_masked_unet
from pipelines.pipeline_stable_video_diffusion import Images, StableVideoDiffusionEDMPipeline
from pipelines.video_inputs import VIDEO, VideoInputs
from utils.commands.settings import check
from utils.diffusion.edm import Denoiser
from utils.diffusion.known_frames import encode_known_frames
from utils.diffusion.sampling import VideoSampling
from utils.diffusion.solver import ResamplingSolver, repeat_levels
from utils.diffusion.svd_condition import Condition, ConditionEncoder
from utils.flow.interpolate import interpolate

REPEATED_LEVELS = (
    1.0,
    20.0,
)  # noise levels of steps that are repeated: outlines form there, latents having deviation 1
STEEPNESS = 8  # of the change from one prediction to the other; 1 is linear, and softens what both show


class TwoWayDenoiser(Denoiser):
    """The mean of a prediction from the first frame and one from the last, of the video reversed in time.

    Its condition has the latents of both beside each frame, (B, F, 2 C, h, w), and the embeddings of both, (B, 2, D).
    """

    def predict(self, x_t: torch.Tensor, sigma: torch.Tensor, condition: Condition) -> torch.Tensor:
        first, last = (
            replace(condition, image_latents=latents, image_embeddings=embedding)
            for latents, embedding in zip(
                condition.image_latents.chunk(2, dim=2), condition.image_embeddings.split(1, dim=1), strict=True
            )
        )
        forward = super().predict(x_t, sigma, first)
        backward = super().predict(x_t.flip(1), sigma, last).flip(1)
        return torch.lerp(forward, backward, weights_of_last(x_t.shape[1]).to(x_t))


class StableVideoDiffusionTransPipeline(StableVideoDiffusionEDMPipeline):
    """`StableVideoDiffusionEDMPipeline` between two frames, by a UNet conditioned on both or training-free."""

    @property
    def trained(self) -> bool:
        """Whether the UNet is conditioned on both frames."""
        return isinstance(self.unet, UNetSpatioTemporalMaskedConditionModel)

    def load_adapter(self, folder: str | Path) -> None:
        """Take what `train_models/train_svd_trans.py` wrote into a folder.

        Raises:
            FileNotFoundError: The folder has none.
            ValueError: It is for another base, or one is loaded already.
        """
        self.register_modules(unet=load_masked_unet(self.unet, folder).eval())

    @torch.no_grad()
    def prepare(
        self,
        image: Images,
        sampling: VideoSampling | None = None,
        last: Images | None = None,
        *,
        num_frames: int | None = None,
        guess: torch.Tensor | None = None,
        repeats: int = 0,
        generator=None,
        **options,
    ) -> VideoInputs:
        """As of `StableVideoDiffusionEDMPipeline`; the image is the first frame.

        Args:
            last: Last frames, as many as first ones and of their size. In a call the second argument.
            num_frames: F, 3 or more; by default the model's.
            guess: For a trained UNet: frames (B, F, 3, H, W) or (1, F, 3, H, W) in [-1, 1] whose latents condition
                those between; by default first and last frame interpolated by optical flow.
            repeats: How often each step at the noise levels `REPEATED_LEVELS` is repeated.

        Raises:
            ValueError: There is no last frame, or an argument is out of its range.
        """
        if last is None:
            raise ValueError("There is no last frame: pass it as the second argument.")
        sampling = VideoSampling() if sampling is None else sampling
        num_frames = self.unet.config.num_frames if num_frames is None else num_frames
        check("num_frames", num_frames, int, low=3)
        check("repeats", repeats, int, low=0)
        ends = self.check_ends(image, last)
        noise = randn_tensor(ends.shape, generator, ends.device, ends.dtype)
        inputs = super().prepare(ends[:, 0], sampling, num_frames=num_frames, generator=generator, **options)
        inputs = replace(inputs, conditions=(self.encode_ends(ends, num_frames, sampling, noise, guess),))
        denoiser = (Denoiser if self.trained else TwoWayDenoiser)(self.unet)
        if inputs.guidance.scale is not None:
            scale = guidance_between(num_frames, sampling.min_guidance_scale, sampling.max_guidance_scale)
            inputs = replace(inputs, guidance=replace(inputs.guidance, scale=scale))
        video = inputs.video
        if repeats:
            sigmas = repeat_levels(video.sigmas, REPEATED_LEVELS, repeats)
            video = replace(
                video, sigmas=sigmas, solver=ResamplingSolver(sampling.solver_order, sampling.eta, generator)
            )
        known = self.encode_frames(ends)

        def hold_ends(x_0: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            x_0 = x_0 if inputs.adjust is None else inputs.adjust(x_0, sigma)
            return torch.cat([known[:, :1], x_0[:, 1:-1], known[:, 1:]], dim=1).to(x_0)

        values = {one.name: getattr(inputs, one.name) for one in fields(inputs)}
        changed = {"sides": (video,), "denoiser": lambda i: denoiser, "adjust": hold_ends}
        return TransInputs(**values | changed, ends=ends)

    def encode_ends(self, ends: torch.Tensor, num_frames: int, sampling: VideoSampling, noise, guess) -> Condition:
        """The condition of both frames (B, 2, 3, H, W), as the UNet takes it, or as `TwoWayDenoiser`."""
        numbers = num_frames, sampling.fps, sampling.scaled_bucket, sampling.noise_aug_strength
        guess = self.check_guess(guess, ends, num_frames)
        with self.upcast_vae():
            encoder = ConditionEncoder(self.vae, self.image_encoder, self.feature_extractor)
            if self.trained:
                return encode_known_frames(encoder, ends, [0, num_frames - 1], *numbers, noise, guess)
            first, last = (encoder(ends[:, k], *numbers, noise[:, k]) for k in range(2))
        latents, embeddings = (
            torch.cat([getattr(one, name) for one in (first, last)], dim=dim)
            for name, dim in (("image_latents", 2), ("image_embeddings", 1))
        )
        return replace(first, image_latents=latents, image_embeddings=embeddings)

    def check_guess(self, guess: torch.Tensor | None, ends: torch.Tensor, num_frames: int) -> torch.Tensor | None:
        """The guess of a trained UNet, (B, F, 3, H, W); None without a trained UNet."""
        if not self.trained:
            if guess is not None:
                raise ValueError(
                    "A guess conditions a trained UNet: load an adapter of train_svd_trans.py, or leave the guess out."
                )
            return None
        if guess is None:
            return torch.stack([interpolate(*pair, num_frames) for pair in ends])
        return self.check_image_frames(guess, ends[:, 0], num_frames)

    def check_ends(self, first: Images, last: Images) -> torch.Tensor:
        """First and last frames (B, 2, 3, H, W) in [-1, 1], on the pipeline's device."""
        first, last = self.check_pixels(first), self.check_pixels(last)
        if first.shape != last.shape:
            sizes = [f"{len(one)} of {one.shape[-1]}x{one.shape[-2]} pixels" for one in (first, last)]
            raise ValueError(
                f"The first frames are {sizes[0]} and the last ones {sizes[1]}: pass as many, of one size."
            )
        return torch.stack([first, last], dim=1).to(self._execution_device)

    def output(self, inputs: "TransInputs", sides, output_type: str) -> StableVideoDiffusionPipelineOutput:
        x_0 = sides[VIDEO].latents
        if output_type == "latent":
            return StableVideoDiffusionPipelineOutput(frames=x_0)
        ends, pixels = inputs.ends, self.decode(x_0, inputs.decode_chunk_size)
        pixels = torch.cat([ends[:, :1], pixels[:, 1:-1], ends[:, 1:]], dim=1)
        return StableVideoDiffusionPipelineOutput(frames=self.postprocess(pixels, output_type))


@dataclass(frozen=True, eq=False)
class TransInputs(VideoInputs):
    """`VideoInputs` of videos between a first and a last frame.

    Attributes:
        ends: First and last frames (B, 2, 3, H, W) in [-1, 1].
    """

    ends: torch.Tensor | None = None


def weights_of_last(num_frames: int) -> torch.Tensor:
    """Weights (F, 1, 1, 1) of the prediction from the last frame, which rise from 0 to 1, most of all in the middle."""
    place = torch.linspace(0, 1, num_frames)[:, None, None, None] ** STEEPNESS
    return place / (place + place.flip(0))


def guidance_between(num_frames: int, minimum: float, maximum: float) -> torch.Tensor:
    """Guidance scales (1, F, 1, 1, 1) that rise linearly to the middle and fall to the last frame, which is known."""
    rising = torch.linspace(0, 2, num_frames)
    distance = torch.minimum(rising, rising.flip(0))
    return (minimum + (maximum - minimum) * distance)[None, :, None, None, None]
