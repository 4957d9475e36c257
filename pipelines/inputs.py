"""Images, masks and values per condition that users pass to a pipeline: converted to one form and checked."""

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from utils.images import to_pixels, to_rgb

DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
SLACK = 1e-3  # of a range, for rounding


def image_batch(
    value,
    what: str,
    latent_channels: int | None = None,
    latent_size: tuple[int, int] | None = None,
    deep: bool = True,
) -> torch.Tensor:
    """Images as a tensor (n, 3, H, W) in [-1, 1], or latents (n, latent_channels, h, w) as they are, float32.

    Args:
        value: A PIL image (turned upright, transparent parts white: `utils.images.to_rgb`), or an array or tensor of
            floats in [-1, 1] of the shape (H, W), (C, H, W) or (n, C, H, W), where one channel counts for three, or a
            list of these.
        what: Its name in messages.
        latent_channels: Of latents, where they may be passed, too.
        latent_size: (h, w) that the call asks for. Values of that size are latents; of others only those that no RGBA
            image has, which are below 0 and beyond [-1, 1].
        deep: Whether PIL images may have more than 8 bits; in a condition those may be metres.

    Raises:
        ValueError: It is none of this.
    """
    if isinstance(value, Image.Image):
        if not deep and value.mode in DEEP_MODES:
            raise ValueError(
                f"{what} is an image of mode {value.mode}: read it with utils.depth.read_disparity and bring it to "
                "[-1, 1] with normalize_disparity."
            )
        return to_pixels(_rgb(value, what))[None]
    if isinstance(value, list | tuple):
        options = what, latent_channels, latent_size, deep
        return _stack([image_batch(one, *options) for one in value], what)
    images = _floats(value, what)
    if is_latent(images, latent_channels):
        _check_latents(images, what, latent_size)
        return images.float()
    if images.shape[1] not in (1, 3):
        rgba = "; pass RGBA as a PIL image" if images.shape[1] == 4 else ""
        raise ValueError(
            f"{what} has the shape {tuple(value.shape)}: give (H, W), (C, H, W) or (n, C, H, W), C 1 or 3{rgba}."
        )
    if images.abs().max() > 1 + SLACK:
        raise ValueError(f"{what} reaches from {images.min():.3g} to {images.max():.3g}: bring it to [-1, 1].")
    return images.float().expand(-1, 3, -1, -1)


def is_latent(images: torch.Tensor, latent_channels: int | None) -> bool:
    """Whether images (n, C, H, W) are latents by their number of channels, which says nothing if that is 1 or 3."""
    return images.shape[1] == latent_channels and latent_channels not in (1, 3)


def mask_batch(value, what: str) -> torch.Tensor:
    """Masks as (n, 1, H, W): 1 where to generate (white), 0 where to keep (black).

    value: A PIL image (as `utils.images.to_rgb` shows it), or an array or tensor (H, W), (1, H, W) or (n, 1, H, W) of
    booleans or of numbers 0 and 1.
    """
    if isinstance(value, Image.Image):
        value = np.asarray(_rgb(value, what).convert("L")) > 127
    if not isinstance(value, np.ndarray | torch.Tensor):
        raise ValueError(f"{what} is a {type(value).__name__}: give a PIL image, an array or a tensor.")
    mask = _tensor(value, what).float()
    mask = mask[(None,) * (4 - mask.ndim)] if 2 <= mask.ndim <= 4 else mask
    if mask.ndim != 4 or mask.shape[1] != 1:
        raise ValueError(f"{what} has the shape {tuple(value.shape)}: give (H, W) or (n, 1, H, W).")
    if not ((mask == 0) | (mask == 1)).all():
        raise ValueError(f"{what} has values other than 0 (keep) and 1 (generate).")
    return mask


def latent_mask(mask: torch.Tensor, factor: int) -> torch.Tensor:
    """(n, 1, H, W) -> (n, 1, h, w): a latent is kept only where all of its pixels are."""
    return functional.max_pool2d(mask, factor)


def per_condition(value, names: list[str], what: str) -> dict:
    """A value for each condition: a dict by name, where missing ones are None, or one value for one condition."""
    if isinstance(value, dict):
        if unknown := set(value) - set(names):
            raise ValueError(f"{what} names {min(unknown)!r}, but the adapters in use are {', '.join(names)}.")
        return {name: value.get(name) for name in names}
    if value is not None and len(names) > 1:
        raise ValueError(f"{what} is for one condition of {', '.join(names)}: give a dict by name.")
    return dict.fromkeys(names, value)


def check_strength(strength: float | None, known, mask, what: str) -> float:
    """The share of the noise at which a side starts: by default 1 where it is generated and 0 where it is given."""
    if known is None:
        if mask is not None:
            raise ValueError(f"{what}: there is a mask but nothing to keep: give the image too.")
        if strength not in (None, 1):
            raise ValueError(f"{what}: a strength of {strength} needs an image to start from.")
        return 1.0
    if strength is None:
        return 0.0 if mask is None else 1.0
    if not 0 <= strength <= 1:
        raise ValueError(f"{what}: the strength is a share of the noise from 0 to 1, not {strength}.")
    if strength == 0 and mask is not None:
        raise ValueError(f"{what}: with strength 0 all of it is kept, so a mask has no use: leave one of them out.")
    return float(strength)


def repeat_to(batch: torch.Tensor, prompts: int, copies: int, what: str) -> torch.Tensor:
    """(n, ...) -> (prompts * copies, ...), where n is 1 or `prompts`."""
    if len(batch) not in (1, prompts):
        raise ValueError(f"{what}: there are {len(batch)} for {prompts} prompts: give one, or one for each prompt.")
    return batch.repeat_interleave(prompts * copies // len(batch), dim=0)


def _rgb(image: Image.Image, what: str) -> Image.Image:
    try:
        return to_rgb(image)
    except (OSError, ValueError) as error:
        raise ValueError(f"{what} cannot be read: {str(error).rstrip('.')}.") from error


def _floats(value, what: str) -> torch.Tensor:
    """(n, C, H, W) of finite floats."""
    if not isinstance(value, np.ndarray | torch.Tensor):
        raise ValueError(f"{what} is a {type(value).__name__}: give a PIL image, an array or a tensor.")
    images = _tensor(value, what)
    if not images.is_floating_point():
        raise ValueError(f"{what} has the type {images.dtype}: give floats in [-1, 1], or a PIL image.")
    if not 2 <= images.ndim <= 4:
        raise ValueError(
            f"{what} has the shape {tuple(value.shape)}: give (H, W), (C, H, W) or (n, C, H, W), C 1 or 3."
        )
    if not images.numel():
        raise ValueError(f"{what} has the shape {tuple(value.shape)} and no pixel.")
    if not images.isfinite().all():
        raise ValueError(f"{what} has values that are not finite: replace them, unknown depth by the farthest, say.")
    return images[(None,) * (4 - images.ndim)]


def _tensor(value: np.ndarray | torch.Tensor, what: str) -> torch.Tensor:
    """An array in any order of bytes and of memory, such as a mirrored one, as a tensor."""
    if not isinstance(value, np.ndarray):
        return value
    try:
        return torch.from_numpy(np.ascontiguousarray(value, value.dtype.newbyteorder("=")))
    except TypeError:
        raise ValueError(f"{what} is an array of {value.dtype}: give numbers, or a PIL image.") from None


def _check_latents(latents: torch.Tensor, what: str, latent_size: tuple[int, int] | None) -> None:
    """Raises ValueError where they may as well be an RGBA image, whose values are in [0, 1], [0, 255] or [-1, 1]."""
    low, high = latents.min(), latents.max()
    if tuple(latents.shape[-2:]) != latent_size and (low >= 0 or (low >= -1 - SLACK and high <= 1 + SLACK)):
        raise ValueError(
            f"{what} has {latents.shape[1]} channels from {low:.3g} to {high:.3g}, which may be RGBA or latents: pass "
            "RGBA as a PIL image, or latents together with the height and width of their image in pixels."
        )


def _stack(images: list[torch.Tensor], what: str) -> torch.Tensor:
    shapes = sorted({tuple(image.shape[1:]) for image in images})
    if len(shapes) != 1:
        raise ValueError(f"{what}: images of one call have one size, not {', '.join(map(str, shapes)) or 'none'}.")
    return torch.cat(images)
