"""Validation of trainings on Stable Video Diffusion: losses on clips that are not trained on, and samples beside them.

There is one `Validation`. What a variant measures and what it shows are two functions: `measure` from the network and a
`HeldOut` clip to losses by name, `show` from a sample to rows of frames. Without them the loss of the training itself
is measured.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import default_collate
from tqdm.auto import tqdm

from utils.diffusion.edm import Denoiser
from utils.diffusion.sampling import VideoSampling
from utils.diffusion.svd_condition import Condition
from utils.images import to_image
from utils.latents import ENCODED_TOGETHER, encode_mode
from utils.training.logs import JsonLog
from utils.video import contact_sheet, to_frames, write_video

LEVELS = 8  # noise levels of the held-out loss: evenly spread quantiles of those of the training
NOISE_AUG_STRENGTH = 0.05  # exp(-3), the median of those in training


class HeldOut:
    """A clip that is not trained on, while it is measured; all noise comes from one generator.

    Args:
        svd: The training (`utils.training.svd.SVDTraining`).
        sample: One of its `held_out`.
        generator: The same in each validation, so that losses of two steps may be compared.
    """

    def __init__(self, svd, sample: dict[str, torch.Tensor], generator: torch.Generator):
        self.svd, self.sample, self.generator = svd, sample, generator

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        """Scaled latents (F, C, h, w) of frames (F, 3, H, W): the mode of the posterior."""
        vae = self.svd.pipe.vae
        return encode_mode(vae, frames.to(vae.device)).float() * vae.config.scaling_factor

    def condition(self) -> Condition:
        """The condition with the first frame as the conditioning image of all frames."""
        return self.conditions(None)[0]

    def conditions(self, *images: torch.Tensor | None) -> list[Condition]:
        """For each of several conditioning images (1, F, 3, H, W), or None for the first frame.

        The same noise on all.
        """
        image = self.sample["image"][None].to(self.svd.pipe.vae.device)
        noise = torch.randn(image.shape, generator=self.generator).to(image)
        numbers = self.sample["fps"], self.sample["motion_bucket_id"], NOISE_AUG_STRENGTH
        known = image, len(self.sample["pixel_values"]), *numbers, noise
        return [self.svd.encoder(*known, None if frames is None else frames.to(image)) for frames in images]

    def levels(self, clean: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Noise levels (), and noise like clean latents for each."""
        quantiles = (torch.arange(LEVELS) + 0.5) / LEVELS
        edm = self.svd.edm
        for sigma in (edm.sigma_mean + edm.sigma_std * torch.special.ndtri(quantiles)).exp():
            yield sigma.to(clean), torch.randn(clean.shape, generator=self.generator).to(clean)


Measure = Callable[[nn.Module, HeldOut], dict[str, torch.Tensor]]
Show = Callable[[dict, Path], list[torch.Tensor | np.ndarray]]


class Validation:
    """What `utils.training.loop.fit` calls before the first step (`start`) and as `validate`.

    `validation/loss.jsonl` in the output folder gets a line before the training and one for each validation.

    Args:
        svd: The training; its `held_out` samples are measured.
        measure: From the network and a clip to losses by name, of which `loss` is the one to look at.
        show: From a sample, and a path without suffix for files of its own, to rows of frames: (F, 3, H, W) in [-1, 1]
            or uint8 (F, H, W, 3). The sheet has those of the first `--num_validation_samples` clips. None: no sheet.
    """

    def __init__(self, svd, measure: Measure, show: Show | None = None):
        svd.pipe.set_progress_bar_config(disable=True)
        self.svd, self.measure, self.show = svd, measure, show
        self.folder = Path(svd.args.output_dir) / "validation"
        self.log: JsonLog | None = None

    def start(self, network: nn.Module, step: int, kept_step: int) -> None:
        """Open the log, and begin it with the losses before the training."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = JsonLog(self.folder / "loss.jsonl", kept_step)
        if step == 0:
            self.log.write({"step": 0, **self.losses(network)})

    def __call__(self, network: nn.Module, step: int) -> dict[str, Image.Image]:
        """Log the losses, and return the sheet."""
        losses = self.losses(network)
        self.log.write({"step": step, **losses})
        tqdm.write(f"step {step}: loss {losses['loss']:.4f} on clips held out")
        return {"samples": self._sheet(step)} if self.show else {}

    @torch.no_grad()
    def losses(self, network: nn.Module) -> dict[str, float]:
        """Means over the clips, by name."""
        generator = torch.Generator().manual_seed(self.svd.args.seed)
        found = [self.measure(network, HeldOut(self.svd, sample, generator)) for sample in self.svd.held_out]
        return {name: torch.stack([losses[name] for losses in found]).mean().item() for name in found[0]}

    def _sheet(self, step: int) -> Image.Image:
        samples = self.svd.held_out[: self.svd.args.num_validation_samples]
        rows = []
        for index, sample in enumerate(samples):
            rows += [to_frames(row) for row in self.show(sample, self.folder / f"{step:06d}_{index}")]
        return contact_sheet(np.concatenate(rows), columns=len(rows[0]))


def video_errors(network: nn.Module, clip: HeldOut) -> dict[str, torch.Tensor]:
    """Mean error of v of a video from its first frame."""
    x_0, condition = clip.encode(clip.sample["pixel_values"])[None], clip.condition()
    return mean_error(Denoiser(network, clip.svd.edm), x_0, condition, clip.levels(x_0))


def mean_error(denoiser, clean: torch.Tensor, condition, levels: Iterable) -> dict[str, torch.Tensor]:
    """Mean of a denoiser's `loss` of one video.

    Args:
        clean: Its latents (1, F, C, h, w).
        levels: Noise levels or timesteps (), and noise like the latents for each.
    """
    errors = [denoiser.loss(clean, noise, level[None], condition) for level, noise in levels]
    return {"loss": torch.cat(errors).mean()}


def training_errors(loss: Callable) -> Measure:
    """The training's own loss, with the same random numbers in each validation."""

    def measure(network: nn.Module, clip: HeldOut) -> dict[str, torch.Tensor]:
        batch = {name: value.to(clip.svd.pipe.vae.device) for name, value in default_collate([clip.sample]).items()}
        torch.manual_seed(clip.generator.initial_seed())
        found = [loss(network, batch) for _ in range(LEVELS)]
        found = [result if isinstance(result, tuple) else (result, {}) for result in found]
        named = [{"loss": total, **scalars} for total, scalars in found]
        return {name: torch.stack([losses[name].float().cpu() for losses in named]).mean() for name in named[0]}

    return measure


def beside_truth(sample: dict, video: torch.Tensor, path: Path) -> list[torch.Tensor]:
    """Rows for a sheet: true frames of a sample, and a sampled video (F, 3, H, W) in [0, 1]; both also as a video."""
    rows = [sample["pixel_values"], video.cpu().float() * 2 - 1]
    write_video(path.with_name(f"{path.name}.mp4"), torch.cat(rows, dim=-1), float(sample["fps"]))
    return rows


def sample_options(sample: dict, args) -> dict:
    """Arguments of a pipeline's call for a sample that is held out."""
    sampling = VideoSampling(
        num_inference_steps=args.num_inference_steps, fps=sample["fps"], motion_bucket_id=sample["motion_bucket_id"]
    )
    return {
        **sampling.options(),
        "num_frames": len(sample["pixel_values"]),
        "decode_chunk_size": ENCODED_TOGETHER,
        "generator": torch.Generator().manual_seed(args.seed),
    }


def show_cached_clips(pipe, shown, args) -> Image.Image:
    """Clips of a cache that are not trained on, each above a sample from its first frame, without guidance."""
    pipe.set_progress_bar_config(disable=True)
    torch.manual_seed(args.seed)
    samples = [shown[i] for i in range(len(shown))]
    latents = torch.stack([sample["latents"] for sample in samples]).to(pipe.vae.device)
    truth = pipe.decode_latents(latents * pipe.vae.config.scaling_factor, args.num_frames).transpose(1, 2)
    sizes = {"height": args.height, "width": args.width, "num_frames": args.num_frames}
    videos = []
    for sample in samples:
        numbers = {"fps": float(sample["fps"]), "motion_bucket_id": int(sample["motion_bucket_id"])}
        options = {"num_inference_steps": 20, "max_guidance_scale": 1.0, "output_type": "pt"}
        generator = torch.Generator().manual_seed(args.seed)
        videos.append(pipe(to_image(sample["image"]), **sizes, **numbers, **options, generator=generator).frames[0])
    return pairs_sheet(truth.cpu().clamp(-1, 1), torch.stack(videos).cpu() * 2 - 1)


def pairs_sheet(truth: torch.Tensor, videos: torch.Tensor) -> Image.Image:
    """Clips (N, F, 3, H, W) in [-1, 1], a row each, each truth above its other."""
    rows = torch.stack([truth, videos], dim=1).flatten(0, 2)
    return contact_sheet(rows, columns=truth.shape[1])
