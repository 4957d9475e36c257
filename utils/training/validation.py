"""Validation of a training of Stable Video Diffusion: loss on clips that it does not see, videos of their first frames."""

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import StableVideoDiffusionPipeline
from PIL import Image
from tqdm.auto import tqdm

from utils.diffusion.condition import Condition, ConditionEncoder
from utils.diffusion.edm import EDM, Denoiser
from utils.images import to_image
from utils.latents import ENCODED_TOGETHER
from utils.training.logs import JsonLog
from utils.video import contact_sheet, write_video

LEVELS = 8  # noise levels of the held-out loss: evenly spread quantiles of those of the training
NOISE_AUG_STRENGTH = 0.05  # exp(-3), the median of those in training


class Validation:
    """What `utils.training.loop.fit` calls as `validate`.

    Args:
        pipe: With the UNet that is trained.
        samples: Of `SVDClips`, with pixels.
        edm: Of the training.
        folder: Gets `loss.jsonl` and videos, truth at the left and sample at the right.
        num_inference_steps: Of the videos.
        seed: Of all noise, the same in each validation, so that losses of two steps may be compared.
    """

    def __init__(
        self,
        pipe: StableVideoDiffusionPipeline,
        samples: Sequence[dict[str, torch.Tensor]],
        edm: EDM,
        folder: Path,
        num_inference_steps: int = 25,
        seed: int = 0,
    ):
        pipe.set_progress_bar_config(disable=True)
        self.pipe, self.samples, self.edm, self.folder = pipe, list(samples), edm, folder
        self.num_inference_steps, self.seed = num_inference_steps, seed
        self.first_losses: dict[str, float] | None = None

    def __call__(self, unet: torch.nn.Module, step: int) -> dict[str, Image.Image]:
        """Log the loss, write the videos, and return a sheet: rows of truth, each above its sample."""
        self._log(step, self.losses(unet))
        drawn = [self._draw(sample) for sample in self.samples]
        rows = []
        for index, (sample, video) in enumerate(zip(self.samples, drawn, strict=True)):
            pair = [sample["pixel_values"], video]
            rows += pair
            path = self.folder / f"{step:06d}_{index}.mp4"
            write_video(path, torch.cat(pair, dim=-1), float(sample["fps"]))
        return {"samples": contact_sheet(torch.cat(rows), columns=len(drawn[0]))}

    def measure_start(self, unet: torch.nn.Module) -> None:
        """Take the loss before the training, which the log then begins with."""
        training = unet.training
        self.first_losses = self.losses(unet.eval())
        unet.train(training)

    @torch.no_grad()
    def losses(self, unet: torch.nn.Module) -> dict[str, float]:
        """Mean errors of v over the clips and over fixed levels and noise, by name; `loss` is that of all."""
        generator = torch.Generator().manual_seed(self.seed)
        found = [self._errors(unet, sample, generator) for sample in self.samples]
        return {name: torch.stack([errors[name] for errors in found]).mean().item() for name in found[0]}

    def _errors(self, unet, sample: dict, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Mean error of v of one clip, by name."""
        x_0, condition = self._encode(sample["pixel_values"])[None], self._condition(sample, generator)
        errors = []
        for sigma in self._levels():
            noise = torch.randn(x_0.shape, generator=generator).to(x_0)
            errors.append(Denoiser(unet, self.edm).loss(x_0, noise, sigma[None].to(x_0), condition))
        return {"loss": torch.cat(errors).mean()}

    def _levels(self) -> torch.Tensor:
        quantiles = (torch.arange(LEVELS) + 0.5) / LEVELS
        return (self.edm.sigma_mean + self.edm.sigma_std * torch.special.ndtri(quantiles)).exp()

    def _encode(self, frames: torch.Tensor) -> torch.Tensor:
        """Scaled latents (F, C, h, w): the mode of the posterior."""
        vae, encoder = self.pipe.vae, self._encoder()
        parts = [encoder.encode_latents(part.to(vae.device)) for part in frames.split(ENCODED_TOGETHER)]
        return torch.cat(parts).float() * vae.config.scaling_factor

    def _condition(self, sample: dict, generator: torch.Generator) -> Condition:
        return self._conditions(sample, generator, None)[0]

    def _conditions(self, sample: dict, generator: torch.Generator, *told: torch.Tensor | None) -> list[Condition]:
        """For each of several pictures (1, F, 3, H, W), or None for the image alone, with the same noise."""
        image = sample["image"][None].to(self.pipe.vae.device)
        noise = torch.randn(image.shape, generator=generator).to(image)
        numbers = sample["fps"], sample["motion_bucket_id"], NOISE_AUG_STRENGTH
        known = image, len(sample["pixel_values"]), *numbers, noise
        return [self._encoder()(*known, None if frames is None else frames.to(image)) for frames in told]

    def _encoder(self) -> ConditionEncoder:
        return ConditionEncoder(self.pipe.vae, self.pipe.image_encoder, self.pipe.feature_extractor)

    def _log(self, step: int, losses: dict[str, float]) -> None:
        path = self.folder / "loss.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        log = JsonLog(path, step - 1)
        if self.first_losses is not None:
            log = JsonLog(path, 0)
            log.write({"step": 0, **self.first_losses})
            self.first_losses = None
        log.write({"step": step, **losses})
        tqdm.write(f"step {step}: loss {losses['loss']:.4f} on clips held out")

    def _draw(self, sample: dict[str, torch.Tensor]) -> torch.Tensor:
        """Frames (F, 3, H, W) in [-1, 1], with guidance as the pipeline has it."""
        F, _, H, W = sample["pixel_values"].shape
        video = self.pipe(
            to_image(sample["image"]),
            height=H,
            width=W,
            num_frames=F,
            num_inference_steps=self.num_inference_steps,
            fps=float(sample["fps"]),
            motion_bucket_id=int(sample["motion_bucket_id"]),
            decode_chunk_size=ENCODED_TOGETHER,
            generator=torch.Generator().manual_seed(self.seed),
            output_type="pt",
        ).frames[0]
        return video.cpu().float() * 2 - 1
