"""First frames of videos from text: images sampled by Stable Diffusion, or images edited by it."""

from collections.abc import Sequence

import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
from PIL import Image

from pipelines.sizes import fit_image
from utils.images import to_image
from utils.words import count


def text_to_images(
    pipe: StableDiffusionPipeline, prompts: Sequence[str], seed: int = 0, **options
) -> list[Image.Image]:
    """An image for each prompt.

    Args:
        seed: Of the first prompt; the k-th has seed + k.
        options: Further arguments of the pipeline's call.
    """
    return [
        pipe(prompt, generator=torch.Generator().manual_seed(seed + k), **options).images[0]
        for k, prompt in enumerate(prompts)
    ]


def edit_images(
    pipe: StableDiffusionPipeline,
    images: Sequence[Image.Image],
    prompts: Sequence[str],
    strength: float,
    seed: int = 0,
    **options,
) -> list[Image.Image]:
    """Each image changed towards its prompt: noise is added, and taken away with the prompt (SDEdit, arXiv 2108.01073).

    Args:
        images: As many as prompts, or one for all; resized to the size of the model.
        prompts: As many as images, or one for all.
        strength: Share of the noise that is added, above 0 and up to 1.
        seed, options: As of `text_to_images`.
    """
    editor = StableDiffusionImg2ImgPipeline(**pipe.components, requires_safety_checker=False)
    editor.set_progress_bar_config(disable=True)
    given = [to_image(fit_image(pipe, image)) for image in images]
    return [
        editor(prompt, image, strength, generator=torch.Generator().manual_seed(seed + k), **options).images[0]
        for k, (image, prompt) in enumerate(pair_up(given, prompts))
    ]


def pair_up(images: Sequence, prompts: Sequence[str]) -> list[tuple]:
    """Images with their prompts.

    Raises:
        ValueError: Their numbers differ, and neither is 1.
    """
    most = max(len(images), len(prompts))
    if {len(images), len(prompts)} - {1, most}:
        raise ValueError(
            f"{count(len(images), 'image')} and {count(len(prompts), 'prompt')} do not match: pass as many, or one."
        )
    return [(images[k % len(images)], prompts[k % len(prompts)]) for k in range(most)]
