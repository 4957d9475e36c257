"""What the validations of a joint adapter show: sampled pairs, and the condition of known images."""

import numpy as np
import torch
from diffusers import DDIMScheduler
from PIL import Image

from pipelines.image_adapters import AdapterPair
from pipelines.one_step import estimate_condition
from pipelines.pipeline_stable_diffusion_joint import StableDiffusionJointPipeline
from utils.images import to_image
from utils.latents import LatentScale
from utils.training.sd import SDBase
from utils.video import contact_sheet


def show_samples(base: SDBase, scale: LatentScale, shown: list, args) -> dict[str, Image.Image]:
    """pairs: sampled for the prompts. samples: image and condition, the estimated condition, a pair for the caption."""
    pair = AdapterPair(args.trigger_word, scale, one_way=args.one_way_share > 0)
    pipe = joint_pipeline(base, args.adapter_name, pair)

    def sample(**inputs) -> list[list[Image.Image]]:
        sizes = {"num_inference_steps": 25, "height": args.resolution, "width": args.resolution}
        out = pipe(generator=torch.Generator().manual_seed(args.seed), **inputs, **sizes)
        return [out.images, out.conditions[args.adapter_name]]

    images = {"pairs": pair_sheet(sample(prompt=args.validation_prompts))} if args.validation_prompts else {}
    if shown:
        known, captions = known_pairs(shown), [s["caption"] for s in shown]
        estimated = sample(prompt=captions, image=known[0])[1]
        images["samples"] = pair_sheet([*known, estimated, *sample(prompt=captions)])
    return images


def show_estimates(base: SDBase, scale: LatentScale, shown: list) -> dict[str, Image.Image]:
    """samples: image and condition, and the condition estimated in one step."""
    known, name = known_pairs(shown), "default"
    pipe = joint_pipeline(base, name, AdapterPair(latent_scale=scale, one_step=True))
    return {"samples": pair_sheet([*known, estimate_condition(pipe, known[0], name).conditions[name]])}


def joint_pipeline(base: SDBase, name: str, pair: AdapterPair) -> StableDiffusionJointPipeline:
    scheduler = DDIMScheduler.from_config(base.scheduler.config)
    pipe = StableDiffusionJointPipeline(base.vae, base.text.encoder, base.text.tokenizer, base.unet, scheduler)
    pipe.adapter_pairs[name] = pair
    pipe.set_progress_bar_config(disable=True)
    return pipe


def known_pairs(shown: list) -> list[list[Image.Image]]:
    """Images and conditions of samples."""
    return [[to_image(s[key]) for s in shown] for key in ("pixel_values", "conditioning_pixel_values")]


def pair_sheet(columns: list[list[Image.Image]]) -> Image.Image:
    """A sheet with a row for each sample; columns: of each kind of image, one for each sample."""
    images = [np.asarray(image) for row in zip(*columns, strict=True) for image in row]
    return contact_sheet(np.stack(images), columns=len(columns))
