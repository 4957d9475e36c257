"""What trainings on Stable Diffusion share: the base, its texts, what it predicts."""

import argparse
from dataclasses import dataclass

import torch
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from transformers import CLIPTextModel, CLIPTokenizer

from utils.data.cache import encode_pair
from utils.data.pairs import PairDataset, own_pair
from utils.data.records import read_records
from utils.diffusion.pairs import with_trigger
from utils.diffusion.prompts import TextEncoder
from utils.latents import LatentScale, side_factor
from utils.pretrained import loading
from utils.processes import process_state
from utils.training.seeding import SeededDataset
from utils.video import contact_sheet

SCALE_SAMPLES = 256  # images that the latent scale of a condition is measured on


@dataclass(frozen=True)
class SDBase:
    """A base in float32.

    Raises:
        ValueError: It predicts neither the noise nor v.
    """

    vae: AutoencoderKL
    unet: UNet2DConditionModel
    scheduler: DDPMScheduler
    text: TextEncoder

    def __post_init__(self):
        kind = self.scheduler.config.prediction_type
        if kind not in ("epsilon", "v_prediction"):
            raise ValueError(f"The base predicts {kind!r}: take one that predicts epsilon or v_prediction.")

    @classmethod
    def load(cls, args: argparse.Namespace) -> "SDBase":
        """The base of `add_base_arguments`. Raises FileNotFoundError or ValueError where it is none."""
        name, revision = args.pretrained_model_name_or_path, {"revision": args.revision}
        with loading(name, StableDiffusionPipeline, "--pretrained_model_name_or_path"):
            vae = AutoencoderKL.from_pretrained(name, subfolder="vae", dtype=torch.float32, **revision)
            unet = UNet2DConditionModel.from_pretrained(name, subfolder="unet", dtype=torch.float32, **revision)
            scheduler = DDPMScheduler.from_pretrained(name, subfolder="scheduler", **revision)
            tokenizer = CLIPTokenizer.from_pretrained(name, subfolder="tokenizer", **revision)
            encoder = CLIPTextModel.from_pretrained(name, subfolder="text_encoder", dtype=torch.float32, **revision)
        return cls(vae.requires_grad_(False), unet, scheduler, TextEncoder(tokenizer, encoder))

    @property
    def frozen(self) -> tuple[torch.nn.Module, ...]:
        """What a training of the UNet uses and leaves as it is."""
        return self.vae, self.text.encoder

    def check_resolution(self, resolution: int) -> None:
        """Raises ValueError for a side that the autoencoder does not divide."""
        factor = side_factor(self.vae.config)
        if resolution % factor:
            raise ValueError(
                f"--resolution {resolution} does not divide by the base's {factor}: choose a multiple of it."
            )

    def target(self, clean: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """What the UNet predicts at timesteps t (B,): the noise, or v = alpha noise - sigma x_0."""
        if self.scheduler.config.prediction_type == "epsilon":
            return noise
        return self.scheduler.get_velocity(clean, noise, t)


def draw_prompts(captions: list[str], args) -> list[str]:
    """Captions of x, then of y with the trigger word, some of them dropped: x's, y's, or both."""
    x_limit = args.drop_image_prompt
    y_limit = x_limit + args.drop_condition_prompt
    both_limit = y_limit + args.drop_both_prompts
    draws = torch.rand(len(captions)).tolist()
    x = ["" if d < x_limit or y_limit <= d < both_limit else c for c, d in zip(captions, draws, strict=True)]
    y = ["" if x_limit <= d < both_limit else c for c, d in zip(captions, draws, strict=True)]
    return x + [with_trigger(args.trigger_word, caption) for caption in y]


def read_validation_pairs(args: argparse.Namespace) -> list[dict]:
    """The first samples of `--validation_data_dir`, cropped at the centre."""
    if args.validation_data_dir is None:
        return []
    records = read_records(args.validation_data_dir, own_pair(args.condition))[: args.num_validation_samples]
    return list(PairDataset(records, args.resolution, args.condition, center_crop=True))


@torch.no_grad()
def measure_latent_scale(dataset, vae, seed: int) -> LatentScale:
    """Mean and deviation of the condition's latents over the first samples, whatever the random state."""
    vae.to(process_state().device)
    seeded = SeededDataset(dataset, seed)
    latents = []
    for i in range(min(SCALE_SAMPLES, len(dataset))):
        sample = {key: value[None] for key, value in seeded[0, i].items() if key.startswith("conditioning")}
        latents.append(encode_pair({key: value.to(vae.device) for key, value in sample.items()}, vae)[1].float())
    return LatentScale.measure(torch.cat(latents))


def sample_grid(pipe, captions: list[str]) -> Image.Image:
    """A sample for each caption, the same in each call."""
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    images = pipe(captions, num_inference_steps=20, guidance_scale=3.0, generator=generator, output_type="pt").images
    return contact_sheet(images * 2 - 1)
