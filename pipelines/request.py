"""What one call of the joint image pipeline asks for, checked before any network runs."""

from dataclasses import dataclass

import torch

import patch
from pipelines.image_sides import check_scheduler
from pipelines.inputs import check_strength, image_batch, is_latent, mask_batch, per_condition, repeat_to
from pipelines.outputs import check_output_type
from utils.commands.settings import check

TENSORS = ("latents", "condition_latents")


@dataclass(frozen=True, eq=False)
class Known:
    """What a call says of one side.

    Attributes:
        images: (B, 3, H, W) in [-1, 1], or latents (B, C, h, w), or None.
        mask: (B, 1, H, W), 1 where to generate, or None.
        strength: Share of the noise at which it starts.
        noise: (B, C, h, w) of variance 1, or None to draw it.
        latent: Whether `images` are latents.
    """

    images: torch.Tensor | None
    mask: torch.Tensor | None
    strength: float
    noise: torch.Tensor | None = None
    latent: bool = False


@dataclass(frozen=True, eq=False)
class Request:
    """One checked call: prompts, what is known of each side, size and noise.

    Attributes:
        known: Of each side by the name of its adapter, that of the image first, under None.
        weights: Of the adapters, by name.
        copies: Images for each prompt.
        generators: One, or one for each image.
    """

    prompts: list[str]
    negative_prompts: list[str]
    known: dict[str | None, Known]
    weights: dict[str, float]
    height: int
    width: int
    copies: int
    generators: torch.Generator | list[torch.Generator] | None

    @property
    def batch(self) -> int:
        return len(self.prompts) * self.copies

    @property
    def has_text(self) -> bool:
        """Whether the prompt says anything; if not, guidance by it has nothing to go by."""
        return any(self.prompts) or any(self.negative_prompts)


def make_request(
    pipe, prompt, negative_prompt, known: dict, weights: dict[str, float], height, width, copies: int, generator
) -> Request:
    """known: for the image (under None) and each adapter (images, strength, mask, noise), as users pass them."""
    check_models(pipe)
    factor = pipe.vae_scale_factor
    latent_size = (height // factor, width // factor) if height and width else None
    sides = {name: read_side(pipe, name, *values, latent_size) for name, values in known.items()}
    if all(side.strength == 0 for side in sides.values()):
        raise ValueError("All sides are given, so there is nothing to sample: leave one out, or raise a strength.")
    prompts = check_prompts(prompt, sides)
    if copies < 1:
        raise ValueError(f"num_images_per_prompt is {copies}: pass 1 or more.")
    if isinstance(generator, list) and len(generator) != len(prompts) * copies:
        raise ValueError(
            f"The number of generators is {len(generator)} and that of images {len(prompts) * copies}: pass as many."
        )
    height, width = check_size(pipe, sides, height, width)
    check_noise(pipe, sides, len(prompts) * copies, height, width)
    sides = {name: spread(side, len(prompts), copies, label(name)) for name, side in sides.items()}
    negatives = check_negatives(negative_prompt, prompts)
    return Request(prompts, negatives, sides, weights, height, width, copies, generator)


def read_side(pipe, name: str | None, images, strength, mask, noise, latent_size) -> Known:
    """What a call says of one side, not yet spread over the batch.

    Args:
        images: As of `pipelines.inputs.image_batch`, or None.
        mask: As of `pipelines.inputs.mask_batch`, or None.
        noise: Unchecked; see `check_noise`.
        latent_size: (h, w) of the size that the call asks for, or None.

    Raises:
        ValueError: Images, mask or strength are none, or do not fit one another.
    """
    what, channels = label(name), pipe.vae.config.latent_channels
    mask = None if mask is None else mask_batch(mask, f"{what} mask")
    strength = check_strength(strength, images, mask, what)
    if images is None:
        return Known(None, None, strength, noise)
    images = image_batch(images, what, channels, latent_size, deep=name is None)
    return Known(images, mask, strength, noise, is_latent(images, channels))


def check_prompts(prompt, sides: dict[str | None, Known]) -> list[str]:
    """One prompt for each image; without a prompt, or with one, it serves all images."""
    count = max(len(side.images) if side.images is not None else 1 for side in sides.values())
    if prompt is None:
        if sides[None].images is None and all(side.images is None for side in sides.values()):
            raise ValueError("There is neither a prompt nor an image: give a prompt (it may be empty).")
        prompt = ""
    if isinstance(prompt, str):
        return [prompt] * count
    if not isinstance(prompt, list | tuple) or not prompt or not all(isinstance(text, str) for text in prompt):
        raise ValueError(f"The prompt is a string or a list of strings, not {prompt!r}.")
    return list(prompt)


def check_negatives(negative_prompt, prompts: list[str]) -> list[str]:
    if negative_prompt is None or isinstance(negative_prompt, str):
        return [negative_prompt or ""] * len(prompts)
    if len(negative_prompt) != len(prompts):
        raise ValueError(
            f"The number of negative_prompt is {len(negative_prompt)} and that of prompts {len(prompts)}: pass as many."
        )
    return list(negative_prompt)


def check_size(pipe, sides: dict[str | None, Known], height: int | None, width: int | None) -> tuple[int, int]:
    """Height and width in pixels: those asked for, or of the images, or of the model; all of one call agree."""
    factor = pipe.vae_scale_factor
    sizes = {}
    for name, side in sides.items():
        if side.images is not None:
            sizes[label(name)] = tuple(n * (factor if side.latent else 1) for n in side.images.shape[-2:])
        if side.mask is not None:
            sizes[f"{label(name)} mask"] = tuple(side.mask.shape[-2:])
    default = next(iter(sizes.values()), default_size(pipe))
    size = (height or default[0], width or default[1])
    for what, found in sizes.items():
        if found != size:
            raise ValueError(f"{what} has {found[0]}x{found[1]} pixels where {size[0]}x{size[1]} are due: resize it.")
    if min(size) < 1 or size[0] % factor or size[1] % factor:
        raise ValueError(f"{size[0]}x{size[1]} pixels do not divide by the model's {factor}: choose multiples of it.")
    return size


def default_size(pipe) -> tuple[int, int]:
    """Height and width in pixels that the model was trained with."""
    size = pipe.unet.config.sample_size
    height, width = (size, size) if isinstance(size, int) else size
    return height * pipe.vae_scale_factor, width * pipe.vae_scale_factor


def check_noise(pipe, sides: dict[str | None, Known], batch: int, height: int, width: int) -> None:
    """Raises ValueError for noise that is not finite or not (batch, C, h, w) of a result of that size in pixels."""
    factor = pipe.vae_scale_factor
    due = (batch, pipe.unet.config.in_channels, height // factor, width // factor)
    for name, side in sides.items():
        if side.noise is not None and tuple(side.noise.shape) != due:
            raise ValueError(f"{label(name)}: the noise has the shape {tuple(side.noise.shape)} where {due} is due.")
        if side.noise is not None and not side.noise.isfinite().all():
            raise ValueError(f"{label(name)}: the noise has values that are not finite: pass standard normal noise.")


def check_models(pipe) -> None:
    check_scheduler(pipe.scheduler)
    takes, has = pipe.unet.config.in_channels, pipe.vae.config.latent_channels
    if takes != has:
        raise ValueError(f"The UNet takes {takes} channels and the VAE makes {has}: this model needs another pipeline.")


def check_options(direction, output_type: str, tensors: list[str]) -> None:
    if unknown := sorted(set(tensors) - set(TENSORS)):
        raise ValueError(f"A callback cannot have {unknown[0]!r}: the tensors are {', '.join(TENSORS)}.")
    check("direction", direction, str, choices=patch.DIRECTIONS, optional=True)
    check_output_type(output_type)


def check_adapters(adapters, loaded: list[str]) -> dict[str, float]:
    """Weights of the adapters to use, by name; by default all that are loaded, with weight 1."""
    if not loaded:
        raise ValueError("No adapter is loaded: call pipe.load_adapter_pair with a file or folder first.")
    if adapters is None:
        adapters = loaded
    if isinstance(adapters, str):
        adapters = [adapters]
    weights = dict(adapters) if isinstance(adapters, dict) else dict.fromkeys(adapters, 1.0)
    if unknown := sorted(set(weights) - set(loaded)):
        raise ValueError(f"There is no adapter {unknown[0]!r}: loaded are {', '.join(loaded)}.")
    for name, weight in weights.items():
        check(f"The weight of the adapter {name!r}", weight)
    if not weights:
        raise ValueError(f"adapters is empty: name some of {', '.join(loaded)}, or leave it out for all.")
    return weights


def gather_known(names: list[str], image: tuple, images, strengths, masks, noises) -> dict:
    """(images, strength, mask, noise) for the image, under None, and for each condition."""
    values = (images, strengths, masks, noises)
    titles = ("condition", "condition_strength", "condition_mask", "condition_latents")
    columns = [per_condition(value, names, title) for value, title in zip(values, titles, strict=True)]
    return {None: image, **{name: tuple(column[name] for column in columns) for name in names}}


def spread(side: Known, prompts: int, copies: int, what: str) -> Known:
    """The side with an entry for each row of the batch."""
    images, mask = (
        None if values is None else repeat_to(values, prompts, copies, what) for values in (side.images, side.mask)
    )
    return Known(images, mask, side.strength, side.noise, side.latent)


def label(name: str | None) -> str:
    return "The image" if name is None else f"The condition {name!r}"
