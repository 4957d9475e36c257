"""Text and a first frame to video with TRIP (`models/trip_text.py`), on bases of `UNet3DConditionModel`.

pipe = TextToVideoTripPipeline.from_pretrained("outputs/trip")     # as train_trip.py writes it
frames = pipe(image, "a dog runs").frames[0]                       # PIL images; the first: the image, decoded
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from diffusers import AutoencoderKL, DiffusionPipeline, SchedulerMixin, UNet3DConditionModel
from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import (
    StableVideoDiffusionPipelineOutput,
)
from diffusers.utils.torch_utils import randn_tensor
from diffusers.video_processor import VideoProcessor
from transformers import CLIPTextModel, CLIPTokenizer

from models.trip import TripFusion
from models.trip_text import TextCondition, TextDenoiser, TripTextUNet
from pipelines.inputs import image_batch
from pipelines.outputs import check_output_type
from pipelines.sides import denoise
from pipelines.sizes import network_multiple
from pipelines.video_sides import VideoSide
from utils.commands.settings import check
from utils.diffusion.guidance import CONDITIONAL, UNCONDITIONAL, Guidance
from utils.diffusion.prompts import TextEncoder
from utils.diffusion.solver import Solver
from utils.latents import encode_mode

NUM_FRAMES = 16  # of the paper, and of the released bases


@dataclass(frozen=True, eq=False)
class TextVideoInputs:
    """What the denoising of B videos of text to video starts from.

    Attributes:
        side: The video before its first step.
        condition: Of the B videos.
        unconditional: The same with the negative prompt; None without guidance.
        guidance: From the predictions of both to one.
        denoiser: Predicts both.
    """

    side: VideoSide
    condition: TextCondition
    unconditional: TextCondition | None
    guidance: Guidance
    denoiser: TextDenoiser


class TextToVideoTripPipeline(DiffusionPipeline):
    """A text to video base whose UNet predicts a residual of the image noise prior.

    Args:
        scheduler: One of diffusers with `alphas_cumprod`; it says at which timesteps the steps are.
        fusion: Of prior and residual; a base without one is refused when it is called.
        others: As of diffusers' pipelines of text to video.
    """

    model_cpu_offload_seq = "text_encoder->unet->fusion->vae"
    _optional_components: ClassVar = ["fusion"]

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        unet: UNet3DConditionModel,
        scheduler: SchedulerMixin,
        fusion: TripFusion | None = None,
    ):
        super().__init__()
        self.register_modules(
            vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler, fusion=fusion
        )
        self.vae_scale_factor = 2 ** (len(vae.config.block_out_channels) - 1)
        self.video_processor = VideoProcessor(vae_scale_factor=self.vae_scale_factor)

    @torch.no_grad()
    def __call__(self, image, prompt: str | Sequence[str], *, output_type: str = "pil", return_dict=True, **options):
        """Videos that begin with images and follow their prompts.

        Args:
            image: An image or a list of them, of one size, or floats in [-1, 1] (`pipelines.inputs.image_batch`).
            prompt: One for each image, or one for all.
            output_type: "pil", "np" (B, F, H, W, 3) in [0, 1], "pt" (B, F, 3, H, W) in [0, 1] or "latent" (B, F, C, h,
                w).
            options: Arguments of `prepare`, and `decode_chunk_size`, frames that are decoded at once.

        Raises:
            ValueError: There is no fusion, or an argument is out of its range.
        """
        check_output_type(output_type)
        chunk = options.pop("decode_chunk_size", None)
        frames = self.denoise(self.prepare(image, prompt, **options))
        if output_type != "latent":
            frames = self.video_processor.postprocess_video(self.decode(frames, chunk).transpose(1, 2), output_type)
        self.maybe_free_model_hooks()
        return StableVideoDiffusionPipelineOutput(frames=frames) if return_dict else (frames,)

    @torch.no_grad()
    def prepare(
        self,
        image,
        prompt: str | Sequence[str],
        *,
        negative_prompt: str = "",
        num_frames: int | None = None,
        num_inference_steps: int = 50,
        guidance_scale: float = 9.0,
        solver_order: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
    ) -> TextVideoInputs:
        """What the denoising starts from.

        Args:
            num_frames: F; by default 16.
            negative_prompt: Of the unconditional prediction of all videos.
            guidance_scale: Of the prompt; 1 or less: no guidance. The first frame is in both predictions.
            solver_order: 1 is DDIM, 2 DPM-Solver++.
            generator: One, or one for each image, so that a video does not depend on the others of its batch.
            latents: Standard normal noise (B, F, C, h, w) to start from.
        """
        if self.fusion is None:
            raise ValueError("This base has no TRIP fusion: train one with train_models/train_trip.py.")
        num_frames = NUM_FRAMES if num_frames is None else num_frames
        check("num_frames", num_frames, int, low=2)
        check("num_inference_steps", num_inference_steps, int, low=1, high=self.scheduler.config.num_train_timesteps)
        pixels = self.check_pixels(image).to(self._execution_device)
        prompts = [prompt] * len(pixels) if isinstance(prompt, str) else list(prompt)
        if len(prompts) != len(pixels):
            raise ValueError(f"{len(prompts)} prompts do not go with {len(pixels)} images: pass one for each, or one.")
        first = encode_mode(self.vae, pixels)[:, None].float() * self.vae.config.scaling_factor
        guided = guidance_scale > 1
        negative = self.embed([negative_prompt]).expand(len(prompts), -1, -1) if guided else None
        denoiser = TextDenoiser(TripTextUNet(self.unet, self.fusion), self.scheduler)
        return TextVideoInputs(
            self.start(first, denoiser, num_frames, num_inference_steps, Solver(solver_order), generator, latents),
            TextCondition(self.embed(prompts), first),
            TextCondition(negative, first) if guided else None,
            Guidance(guidance_scale if guided else None),
            denoiser,
        )

    def start(
        self,
        first: torch.Tensor,
        denoiser: TextDenoiser,
        num_frames: int,
        steps: int,
        solver: Solver,
        generator,
        latents,
    ) -> VideoSide:
        """The video at the first timestep of the schedule, as latents of EDM."""
        B, _, *size = first.shape
        noise = randn_tensor((B, num_frames, *size), generator, first.device) if latents is None else latents
        if noise.shape != (B, num_frames, *size):
            raise ValueError(f"The noise is {tuple(noise.shape)} and has to be {(B, num_frames, *size)}.")
        self.scheduler.set_timesteps(steps)
        sigmas = denoiser.sigmas(self.scheduler.timesteps).to(first.device)
        x_t = noise.to(first) * (1 + sigmas[0].square()).sqrt()  # z_t is the noise alone
        return VideoSide(None, x_t, torch.cat([sigmas, sigmas.new_zeros(1)]), solver=solver)

    @torch.no_grad()
    def denoise(self, inputs: TextVideoInputs) -> torch.Tensor:
        """Clean latents (B, F, C, h, w), float32; with the prior the first frame is at every step exactly the image."""
        conditions = {UNCONDITIONAL: inputs.unconditional, CONDITIONAL: inputs.condition}

        def estimate(sides: Sequence[VideoSide], i: int) -> dict[int, torch.Tensor]:
            side = sides[0]
            predictions = {
                term: inputs.denoiser.predict(side.latents, side.level(i), conditions[term])
                for term in inputs.guidance.terms
            }
            x_0 = inputs.guidance.estimate(side, predictions, i)
            if self.fusion.form.prior:
                x_0 = torch.cat([inputs.condition.first.to(x_0), x_0[:, 1:]], dim=1)
            return {0: x_0}

        iterations = self.progress_bar(range(len(inputs.side.sigmas) - 1))
        return denoise([inputs.side], iterations, estimate)[0].latents

    def embed(self, prompts: list[str]) -> torch.Tensor:
        """Embeddings (B, L, D)."""
        return TextEncoder(self.tokenizer, self.text_encoder).encode(prompts).to(self._execution_device)

    def check_pixels(self, image) -> torch.Tensor:
        """Images as pixels (B, 3, H, W) in [-1, 1], float32."""
        pixels = image_batch(image, "The image")
        (H, W), multiple = pixels.shape[-2:], network_multiple(self)
        if H % multiple or W % multiple:
            raise ValueError(f"The image has {W}x{H} pixels: resize it to multiples of {multiple}.")
        return pixels

    @torch.no_grad()
    def decode(self, latents: torch.Tensor, decode_chunk_size: int | None = None) -> torch.Tensor:
        """Pixels (B, F, 3, H, W), float32, about [-1, 1], of clean latents; each frame is decoded alone."""
        chunk = latents.shape[1] if decode_chunk_size is None else decode_chunk_size
        check("decode_chunk_size", chunk, int, low=1)
        frames = (latents / self.vae.config.scaling_factor).to(self.vae.dtype).flatten(0, 1)
        pixels = torch.cat([self.vae.decode(part).sample.float() for part in frames.split(chunk)])
        return pixels.unflatten(0, latents.shape[:2])
