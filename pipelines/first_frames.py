"""First frames of videos from text: images sampled by Stable Diffusion, or images edited by it."""

from collections.abc import Sequence

import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
from PIL import Image

from pipelines.layouts import check_steps
from pipelines.sizes import fit_image
from utils.images import to_image, to_pixels
from utils.messages.words import count
from utils.pretrained import check_kind, choose_device, load_pipeline
from utils.weights.embedded import warn_of_photograph

EDIT_STRENGTH = 0.6  # by default, share of the noise


def check_image_model(model: str, image_steps: int | None) -> None:
    """Raises ValueError for a base of another kind, and for more steps than it has noise levels."""
    check_kind(model, StableDiffusionPipeline, "--image_model")
    check_steps(model, "--image_model", image_steps=image_steps)


def make_first_frames(
    images: Sequence[Image.Image],
    prompts: Sequence[str],
    model: str,
    device: str | None = None,
    dtype: str = "float32",
    edit_strength: float | None = None,
    seed: int = 0,
    keep: bool = False,
    **options,
) -> list[Image.Image]:
    """Images that are given, made from text where there are none, or edited by it.

    Args:
        prompts: None, one for all images, or one for each.
        model: Folder or hub name of a Stable Diffusion base, for prompts.
        edit_strength: Share of the noise with which images are edited; by default 0.6.
        keep: Without an edit_strength, images stay as they are, whatever the prompts.
        options: Further arguments of its call.
    """
    if not prompts or (keep and images and edit_strength is None):
        return list(images)
    pipe = load_pipeline(StableDiffusionPipeline, model, dtype, "--image_model").to(choose_device(device))
    pipe.set_progress_bar_config(disable=True)
    if not images:
        return text_to_images(pipe, prompts, seed, **options)
    for image in images:
        warn_of_photograph(model, to_pixels(image), "The first frame", "--image_model")
    strength = EDIT_STRENGTH if edit_strength is None else edit_strength
    return edit_images(pipe, images, prompts, strength, seed, **options)


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
