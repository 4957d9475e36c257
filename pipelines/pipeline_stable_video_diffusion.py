"""Stable Video Diffusion in three steps that variants build on: `prepare`, `denoise`, `decode`.

Variants override `prepare` alone: it returns the sides, their conditions, the denoiser of each step, the guidance and
what changes the estimates between the steps (`pipelines/video_inputs.py`). The noise levels are the scheduler's, the
step is Euler's unless another is asked for (`utils/diffusion/solver.py`). The output is that of
`StableVideoDiffusionPipeline`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from diffusers import StableVideoDiffusionPipeline
from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import (
    StableVideoDiffusionPipelineOutput,
)
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image

from pipelines.adjustments import adjust_frames
from pipelines.inputs import image_batch
from pipelines.outputs import check_output_type
from pipelines.rows import Rows, lay_out_rows, paired, run_constant
from pipelines.sides import Estimates, denoise, first_iteration
from pipelines.video_inputs import VIDEO, OnStep, Steer, VideoInputs
from pipelines.video_sides import VideoSide
from utils.commands.settings import check
from utils.diffusion.edm import Denoiser
from utils.diffusion.guidance import UNCONDITIONAL
from utils.diffusion.sampling import VideoSampling
from utils.diffusion.solver import Solver
from utils.diffusion.svd_condition import Condition, ConditionEncoder
from utils.latents import encode_mode, frames_to_decode, side_multiple

Images = Image.Image | Sequence[Image.Image] | np.ndarray | torch.Tensor
Generators = torch.Generator | list[torch.Generator] | None


class StableVideoDiffusionEDMPipeline(StableVideoDiffusionPipeline):
    """Stable Video Diffusion whose denoising loop is open.

    pipe = StableVideoDiffusionEDMPipeline.from_pretrained("weights/tiny_svd")
    frames = pipe(image, fps=8, motion_bucket_id=127).frames[0]     # PIL images

    FLOAT32_VAE: the autoencoder stays in float32 where the rest is bfloat16 (`utils.pretrained.load_pipeline`).
    """

    FLOAT32_VAE = True

    @torch.no_grad()
    def __call__(self, image: Images, *known, output_type: str = "pil", return_dict: bool = True, **options):
        """Videos that begin with images.

        Args:
            image: An image or a list of them, of one size and of sides that `size_multiple` divides, or floats in
                [-1, 1] (`pipelines.inputs.image_batch`).
            known: What a variant takes besides, such as a control or tracks: the arguments of its `prepare` behind
                `sampling`.
            output_type: "pil", "np" (B, F, H, W, 3) in [0, 1], "pt" (B, F, 3, H, W) in [0, 1] or "latent" (B, F, C,
                h, w).
            options: Fields of `VideoSampling` (num_inference_steps, fps, motion_bucket_id, max_guidance_scale, …),
                and arguments of `prepare` by name.

        Raises:
            ValueError: An argument is out of its range.
        """
        check_output_type(output_type)
        sampling, options = VideoSampling.take(options)
        inputs = self.prepare(image, sampling, *known, **options)
        output = self.output(inputs, self.denoise_sides(inputs), output_type)
        self.maybe_free_model_hooks()
        return output if return_dict else tuple(output.values())

    @property
    def size_multiple(self) -> int:
        """What divides the sides of an image."""
        return side_multiple(self.unet.config, self.vae.config)

    @torch.no_grad()
    def prepare(
        self,
        image: Images,
        sampling: VideoSampling | None = None,
        *,
        num_frames: int | None = None,
        generator: Generators = None,
        latents: torch.Tensor | None = None,
        image_frames: torch.Tensor | None = None,
        temporal_smoothing: float = 0.0,
        motion_scale: float = 1.0,
        steer: Steer | None = None,
        on_step: OnStep | None = None,
        decode_chunk_size: int | None = None,
    ) -> VideoInputs:
        """What the denoising starts from.

        Args:
            num_frames: F; by default the model's.
            generator: One, or one for each image, so that a video does not depend on the others of its batch.
            latents: Standard normal noise (B, F, C, h, w) to start from.
            image_frames: Conditioning images of all frames in place of the first frame, (B, F, 3, H, W) or (1, F, 3,
                H, W) in [-1, 1].
            temporal_smoothing, motion_scale: See `pipelines/adjustments.py`.
            steer: Changes the estimates of the clean latents (`VideoInputs`).
            on_step: Called after each step (`VideoInputs`).
            decode_chunk_size: Frames that are decoded at once; by default all of a video.
        """
        sampling = VideoSampling() if sampling is None else sampling
        pixels = self.check_pixels(image).to(self._execution_device)
        num_frames = self.unet.config.num_frames if num_frames is None else num_frames
        check("num_frames", num_frames, int, low=1)
        check("decode_chunk_size", num_frames if decode_chunk_size is None else decode_chunk_size, int, low=1)
        noise = randn_tensor(pixels.shape, generator, pixels.device, pixels.dtype)
        encode = partial(self.encode_condition, pixels, num_frames, sampling, noise)
        condition = encode(self.check_image_frames(image_frames, pixels, num_frames))
        x_t = self.draw_noise(condition, sampling.num_inference_steps, generator, latents)
        sigmas = self.scheduler.sigmas.to(pixels.device, torch.float32)  # the scheduler keeps them on the CPU
        return VideoInputs(
            sides=(VideoSide(None, x_t, sigmas, solver=Solver(sampling.solver_order, sampling.eta, generator)),),
            conditions=(condition,),
            guidance=sampling.guidance(num_frames),
            denoiser=lambda i: Denoiser(self.unet),
            encode_condition=encode,
            negative_motion_bucket_id=sampling.negative_motion_bucket_id,
            decode_chunk_size=decode_chunk_size,
            steer=steer,
            on_step=on_step,
            adjust=adjust_frames(temporal_smoothing, motion_scale, sampling.still_threshold),
        )

    def encode_condition(self, pixels, num_frames: int, sampling: VideoSampling, noise, image_frames=None) -> Condition:
        """The condition of pixels (B, 3, H, W) with that noise, or of image_frames (B, F, 3, H, W)."""
        numbers = sampling.fps, sampling.scaled_bucket, sampling.noise_aug_strength
        with self.upcast_vae():
            encoder = ConditionEncoder(self.vae, self.image_encoder, self.feature_extractor)
            return encoder(pixels, num_frames, *numbers, noise, image_frames)

    def draw_noise(self, condition: Condition, num_inference_steps: int, generator, latents=None) -> torch.Tensor:
        """Noise (B, F, C, h, w) at the largest level, float32; sets the scheduler's levels."""
        if self.scheduler.config.prediction_type != "v_prediction":
            raise ValueError(
                f"The scheduler is for {self.scheduler.config.prediction_type}: "
                "Stable Video Diffusion predicts v, take the EulerDiscreteScheduler of the model."
            )
        device = condition.image_latents.device
        self.scheduler.set_timesteps(num_inference_steps, device=device)
        return self.scaled_noise(condition, generator, latents)

    def scaled_noise(self, condition: Condition, generator, latents=None) -> torch.Tensor:
        """Noise (B, F, C, h, w) at the scheduler's largest level: drawn, or of standard normal latents; float32."""
        B, F, _, h, w = condition.image_latents.shape
        shape = (B, F, 2 * self.vae.config.latent_channels, h * self.vae_scale_factor, w * self.vae_scale_factor)
        if latents is not None and not latents.isfinite().all():
            raise ValueError("The noise has values that are not finite: pass standard normal noise.")
        dtype, device = condition.image_embeddings.dtype, condition.image_latents.device
        return self.prepare_latents(*shape, dtype, device, generator, latents).float()

    def denoise(self, inputs: VideoInputs) -> torch.Tensor:
        """Clean latents (B, F, C, h, w) of the video, float32."""
        return self.denoise_sides(inputs)[VIDEO].latents

    @torch.no_grad()
    def denoise_sides(self, inputs: VideoInputs) -> list[VideoSide]:
        """The sides after all steps; one that is given and reads no other is run once.

        Without joint attention there are no unconditional rows at noise levels without guidance.
        """
        sides, joint = inputs.sides, inputs.joint
        rows = lay_out_rows(sides, len(inputs.video.latents), inputs.guidance.terms, joint)
        with paired(self.unet, rows, sides, joint):

            def run(part: Rows) -> None:
                self.predict(inputs.denoiser(0), sides, part, inputs.condition_of(part), 0)

            rows = run_constant(self.unet, sides, rows, joint, run)
            guided = unguided = rows, inputs.condition_of(rows)
            if not joint.weights:
                conditional = rows.without(UNCONDITIONAL)
                unguided = conditional, inputs.condition_of(conditional)

            def estimate(sides: Sequence[VideoSide], i: int) -> Estimates:
                known = guided if inputs.guidance.acts(sides[VIDEO].level(i)) else unguided
                return inputs.changed(partial(self.estimate, inputs, *known, i), sides, i)

            iterations = range(first_iteration(sides), inputs.num_steps)
            return denoise(sides, self.progress_bar(iterations), estimate)

    def estimate(
        self, inputs: VideoInputs, rows: Rows, condition: Condition, i: int, sides: Sequence[VideoSide]
    ) -> Estimates:
        """Guided estimates of the clean latents of the sides that have rows."""
        terms = rows.split(self.predict(inputs.denoiser(i), sides, rows, condition, i))
        return {number: inputs.guidance.estimate(sides[number], parts, i) for number, parts in terms.items()}

    def predict(
        self, denoiser: Denoiser, sides: Sequence[VideoSide], rows: Rows, condition: Condition, i: int
    ) -> torch.Tensor:
        """v of all rows, each side at its own noise level."""
        x_t = rows.cat([side.latents for side in sides])
        sigma = rows.cat([side.level(i) for side in sides])
        return denoiser.predict(x_t, sigma, condition)

    def output(self, inputs: VideoInputs, sides: Sequence[VideoSide], output_type: str):
        """What a call returns."""
        frames = sides[VIDEO].latents
        if output_type != "latent":
            frames = self.postprocess(self.decode(frames, inputs.decode_chunk_size), output_type)
        return StableVideoDiffusionPipelineOutput(frames=frames)

    def postprocess(self, pixels: torch.Tensor, output_type: str):
        """Pixels (B, F, 3, H, W) in the form asked for."""
        return self.video_processor.postprocess_video(pixels.transpose(1, 2), output_type)  # takes (B, 3, F, H, W)

    @torch.no_grad()
    def decode(self, latents: torch.Tensor, decode_chunk_size: int | None = None) -> torch.Tensor:
        """Pixels (B, F, 3, H, W), float32, about [-1, 1], of clean latents.

        The frames of a chunk see one another, and those beside it that `frames_to_decode` adds.
        """
        num_frames = latents.shape[1]
        chunk = num_frames if decode_chunk_size is None else decode_chunk_size
        check("decode_chunk_size", chunk, int, low=1)
        starts = range(0, num_frames, chunk)
        parts = [self.decode_chunk(latents, start, min(start + chunk, num_frames)) for start in starts]
        return torch.cat(parts, dim=1)

    def decode_chunk(self, latents: torch.Tensor, start: int, end: int) -> torch.Tensor:
        """Pixels (B, end - start, 3, H, W) of those frames, decoded together, one video after the other."""
        numbers, kept = frames_to_decode(self.vae, start, end, latents.shape[1])
        videos = latents[:, numbers].to(self.vae.dtype).split(1)
        pixels = torch.cat([self.decode_latents(video, len(numbers), len(numbers)) for video in videos])
        return pixels[:, :, kept].transpose(1, 2)

    @torch.no_grad()
    def encode_frames(self, frames: torch.Tensor) -> torch.Tensor:
        """Scaled latents (B, F, C, h, w), float32, of images (B, F, 3, H, W): the mode of the posterior."""
        with self.upcast_vae():
            latents = torch.stack([encode_mode(self.vae, clip) for clip in frames.to(self._execution_device)])
        return latents.float() * self.vae.config.scaling_factor

    def check_image_frames(self, frames: torch.Tensor | None, pixels: torch.Tensor, num_frames: int):
        """Conditioning images of all frames of all videos, on their device."""
        if frames is None:
            return None
        due = (len(pixels), num_frames, *pixels.shape[1:])
        if frames.ndim != 5 or frames.shape[0] not in (1, due[0]) or tuple(frames.shape[1:]) != due[1:]:
            raise ValueError(f"image_frames are {tuple(frames.shape)} and have to be {due}: (B, F, 3, H, W).")
        image_batch(frames.flatten(0, 1), "image_frames")
        return frames.float().to(pixels.device).expand(due)

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
