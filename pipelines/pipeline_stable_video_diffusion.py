"""Stable Video Diffusion in three steps that variants build on: `prepare`, `denoise`, `decode`.

The noise levels are the scheduler's, the step is Euler's unless another is asked for (`Solver` of `utils/diffusion/edm.py`), and between the two the estimate of the clean latents may be
adjusted (`pipelines/adjustments.py`). Without adjustments the output is that of `StableVideoDiffusionPipeline`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from diffusers import StableVideoDiffusionPipeline
from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import (
    StableVideoDiffusionPipelineOutput,
)
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image

from pipelines.adjustments import Adjustment, adjust_frames
from pipelines.inputs import image_batch
from utils.diffusion.condition import Condition, ConditionEncoder
from utils.diffusion.edm import EDM, Denoiser
from utils.diffusion.guidance import FrameGuidance
from utils.diffusion.sampling import VideoSampling
from utils.diffusion.solver import Solver

Images = Image.Image | Sequence[Image.Image] | np.ndarray | torch.Tensor
Generators = torch.Generator | list[torch.Generator] | None


@dataclass(frozen=True)
class VideoInputs:
    """What the denoising starts from.

    Attributes:
        x_t: Noise at the largest level, float32 (B, F, C, h, w).
        sigmas: Levels (steps + 1,), falling to 0, float32.
        condition: Of the B samples.
        guidance: None to sample without.
        solver: Makes the steps.
        tell: From pictures (B, F, 3, H, W) to the condition that has them beside the frames in place of the image, with the same noise.
        negative_motion_bucket_id: What the prediction that guidance leads away from is told; None for the bucket of the other.
    """

    x_t: torch.Tensor
    sigmas: torch.Tensor
    condition: Condition
    guidance: FrameGuidance | None
    solver: Solver
    tell: Callable[[torch.Tensor | None], Condition]
    negative_motion_bucket_id: float | None = None

    @property
    def guided_condition(self) -> Condition:
        """Of 2 B samples where there is guidance."""
        if self.guidance is None:
            return self.condition
        return self.condition.with_unconditional(self.negative_motion_bucket_id)


class StableVideoDiffusionEDMPipeline(StableVideoDiffusionPipeline):
    """Stable Video Diffusion whose denoising loop is open.

    pipe = StableVideoDiffusionEDMPipeline.from_pretrained("weights/tiny_svd")
    frames = pipe(image, fps=8, motion_bucket_id=127).frames[0]     # PIL pictures
    """

    denoiser: ClassVar[type[Denoiser]] = Denoiser  # what calls the network

    @torch.no_grad()
    def __call__(
        self,
        image: Images,
        num_frames: int | None = None,
        decode_chunk_size: int | None = None,
        generator: Generators = None,
        latents: torch.Tensor | None = None,
        temporal_smoothing: float = 0.0,
        motion_scale: float = 1.0,
        output_type: str = "pil",
        return_dict: bool = True,
        **sampling,
    ):
        """Videos that begin with images.

        Args:
            image: An image or a list of them, of one size and of sides that `size_multiple` divides, or floats in [-1, 1]
                (`pipelines.inputs.image_batch`).
            num_frames: F; by default the model's.
            decode_chunk_size: Frames that are decoded at once; by default all of a video.
            generator: One, or one for each image, so that a video does not depend on the others of its batch.
            latents: Standard normal noise (B, F, C, h, w) to start from.
            temporal_smoothing, motion_scale: See `pipelines/adjustments.py`.
            output_type: "pil", "np" (B, F, H, W, 3) in [0, 1], "pt" (B, F, 3, H, W) in [0, 1] or "latent" (B, F, C, h, w).
            sampling: Fields of `VideoSampling`: num_inference_steps, fps, motion_bucket_id, max_guidance_scale, …

        Raises:
            ValueError: An argument is out of its range.
        """
        adjust = adjust_frames(temporal_smoothing, motion_scale)
        inputs = self.prepare(image, num_frames, VideoSampling(**sampling), generator, latents)
        frames = self.denoise(inputs, adjust)
        if output_type != "latent":
            pixels = self.decode(frames, decode_chunk_size).transpose(1, 2)  # (B, 3, F, H, W)
            frames = self.video_processor.postprocess_video(pixels, output_type)
        self.maybe_free_model_hooks()
        return StableVideoDiffusionPipelineOutput(frames=frames) if return_dict else (frames,)

    @property
    def size_multiple(self) -> int:
        """What divides the sides of a picture: the factor of the VAE times that of the UNet."""
        return self.vae_scale_factor * 2 ** (len(self.unet.config.block_out_channels) - 1)

    @torch.no_grad()
    def prepare(
        self,
        image: Images,
        num_frames: int | None = None,
        sampling: VideoSampling | None = None,
        generator: Generators = None,
        latents: torch.Tensor | None = None,
        image_frames: torch.Tensor | None = None,
    ) -> VideoInputs:
        """Condition, noise levels and noise; arguments as in a call, and of `ConditionEncoder`: image_frames are its frames."""
        sampling = sampling or VideoSampling()
        pixels = self.check_pixels(image).to(self._execution_device)
        num_frames = self.unet.config.num_frames if num_frames is None else num_frames
        check_numbers(num_frames=num_frames)
        noise = randn_tensor(pixels.shape, generator, pixels.device, pixels.dtype)
        numbers = sampling.fps, sampling.motion_bucket_id, sampling.noise_aug_strength
        tell = partial(self.tell, pixels, num_frames, *numbers, noise)
        condition = tell(image_frames)
        return VideoInputs(
            x_t=self.draw_noise(pixels, num_frames, condition, sampling.num_inference_steps, generator, latents),
            sigmas=self.scheduler.sigmas.to(pixels.device, torch.float32),  # the scheduler keeps them on the CPU
            condition=condition,
            guidance=sampling.guidance(num_frames),
            solver=Solver(sampling.solver_order),
            tell=tell,
            negative_motion_bucket_id=sampling.negative_motion_bucket_id,
        )

    def tell(
        self, pixels, num_frames, fps, motion_bucket_id, noise_aug_strength, noise, image_frames=None
    ) -> Condition:
        """The condition; arguments as of `ConditionEncoder`."""
        with self.upcast_vae():
            encoder = ConditionEncoder(self.vae, self.image_encoder, self.feature_extractor)
            return encoder(pixels, num_frames, fps, motion_bucket_id, noise_aug_strength, noise, image_frames)

    def draw_noise(self, pixels, num_frames, condition, num_inference_steps, generator, latents=None) -> torch.Tensor:
        """Noise at the largest level, float32; sets the scheduler's levels."""
        if self.scheduler.config.prediction_type != "v_prediction":
            raise ValueError(
                f"The scheduler is for {self.scheduler.config.prediction_type}: "
                "Stable Video Diffusion predicts v, take the EulerDiscreteScheduler of the model."
            )
        self.scheduler.set_timesteps(num_inference_steps, device=pixels.device)
        dtype = condition.image_embeddings.dtype
        shape = (len(pixels), num_frames, 2 * self.vae.config.latent_channels, *pixels.shape[-2:])
        return self.prepare_latents(*shape, dtype, pixels.device, generator, latents).float()

    @torch.no_grad()
    def denoise(self, inputs: VideoInputs, adjust: Adjustment | None = None) -> torch.Tensor:
        """Clean latents (B, F, C, h, w), float32.

        adjust: From an estimate of them and its noise level () to the one that the step is made with.
        """
        condition = inputs.guided_condition
        x_t, solver = inputs.x_t, inputs.solver
        for sigma, next_sigma in self.progress_bar(list(pairwise(inputs.sigmas))):
            x_0 = self.estimate(x_t, sigma, condition, inputs.guidance)
            x_0 = x_0 if adjust is None else adjust(x_0, sigma)
            x_t, solver = solver.step(x_t, x_0, sigma, next_sigma)
        return x_t

    def estimate(
        self, x_t: torch.Tensor, sigma: torch.Tensor, condition: Condition, guidance: FrameGuidance | None, unet=None
    ) -> torch.Tensor:
        """Guided estimate of the clean latents; the condition is of 2 B samples where there is guidance.

        unet: Called in place of the pipeline's own.
        """
        denoiser, levels = self.denoiser(self.unet if unet is None else unet, EDM()), sigma.expand(len(x_t))
        if guidance is None:
            return denoiser.denoise(x_t, levels, condition)
        free, told = denoiser.predict(torch.cat([x_t, x_t]), levels.repeat(2), condition).chunk(2)
        v = guidance(free, told, denoiser.edm.denoised(x_t, told, levels), sigma)
        return denoiser.edm.denoised(x_t, v, levels)

    @torch.no_grad()
    def decode(self, latents: torch.Tensor, decode_chunk_size: int | None = None) -> torch.Tensor:
        """Pixels (B, F, 3, H, W), float32, about [-1, 1], of clean latents; the frames of a chunk see one another."""
        num_frames = latents.shape[1]
        chunk = num_frames if decode_chunk_size is None else decode_chunk_size
        check_numbers(decode_chunk_size=chunk)
        videos = [self.decode_latents(video[None].to(self.vae.dtype), num_frames, chunk) for video in latents]
        return torch.cat(videos).transpose(1, 2)

    def check_pixels(self, image: Images) -> torch.Tensor:
        """Images as pixels (B, 3, H, W) in [-1, 1], float32 (`pipelines.inputs.image_batch`)."""
        image = image_batch(image, "The image")
        H, W = image.shape[-2:]
        if H % self.size_multiple or W % self.size_multiple:
            raise ValueError(f"The image has {W}x{H} pixels: resize it to multiples of {self.size_multiple}.")
        return image

    @contextmanager
    def upcast_vae(self) -> Iterator[None]:
        """Within it a VAE whose encoder overflows in float16 computes in float32."""
        dtype = self.vae.dtype
        needed = dtype == torch.float16 and self.vae.config.force_upcast
        if needed:
            self.vae.to(dtype=torch.float32)
        try:
            yield
        finally:
            if needed:
                self.vae.to(dtype=dtype)


def check_numbers(**values: float) -> None:
    """Raises ValueError for one that is not positive."""
    for name, value in values.items():
        if value <= 0:
            raise ValueError(f"{name}={value} is not positive.")
