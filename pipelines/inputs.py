"""What users pass to a pipeline as pictures, masks and values per condition, brought to one form and checked."""

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from utils.images import to_pixels

DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L")


def picture_batch(value, what: str, latent_channels: int) -> torch.Tensor:
    """Pictures as a tensor (n, 3, H, W) in [-1, 1], or latents (n, latent_channels, h, w) as they are.

    value: A PIL picture or a list of them, or an array or tensor of floats in [-1, 1] of the shape (H, W), (C, H, W)
    or (n, C, H, W), where one channel counts for three. what: Its name in messages.
    """
    if isinstance(value, Image.Image):
        value = [value]
    if isinstance(value, list | tuple):
        return _stack(
            [picture_batch(v, what, latent_channels) if not _is_pil(v) else _pil(v, what) for v in value], what
        )
    if not isinstance(value, np.ndarray | torch.Tensor):
        raise ValueError(f"{what} is a {type(value).__name__}: give a PIL picture, an array or a tensor.")
    pictures = torch.as_tensor(value)
    if not pictures.is_floating_point():
        raise ValueError(f"{what} has the type {pictures.dtype}: give floats in [-1, 1], or a PIL picture.")
    pictures = pictures[(None,) * (4 - pictures.ndim)] if 2 <= pictures.ndim <= 4 else pictures
    if pictures.ndim != 4 or pictures.shape[1] not in (1, 3, latent_channels):
        raise ValueError(
            f"{what} has the shape {tuple(value.shape)}: give (H, W), (C, H, W) or (n, C, H, W), C 1 or 3."
        )
    if not pictures.numel():
        raise ValueError(f"{what} has the shape {tuple(value.shape)} and no pixel.")
    if not pictures.isfinite().all():
        raise ValueError(f"{what} has values that are not finite: replace them, unknown depth by the farthest, say.")
    if is_latent(pictures, latent_channels):
        return pictures.float()
    if pictures.abs().max() > 1.001:
        raise ValueError(f"{what} reaches from {pictures.min():.3g} to {pictures.max():.3g}: bring it to [-1, 1].")
    return pictures.float().expand(-1, 3, -1, -1)


def is_latent(pictures: torch.Tensor, latent_channels: int) -> bool:
    return pictures.shape[1] == latent_channels and latent_channels not in (1, 3)


def mask_batch(value, what: str) -> torch.Tensor:
    """Masks as (n, 1, H, W): 1 where to generate (white), 0 where to keep (black).

    value: A PIL picture, or an array or tensor (H, W), (1, H, W) or (n, 1, H, W) of booleans or of numbers 0 and 1.
    """
    if isinstance(value, Image.Image):
        value = np.asarray(value.convert("L")) > 127
    if not isinstance(value, np.ndarray | torch.Tensor):
        raise ValueError(f"{what} is a {type(value).__name__}: give a PIL picture, an array or a tensor.")
    mask = torch.as_tensor(value).float()
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
    """A value for each condition: a dict by name, where missing ones are None, or one value where there is one condition."""
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
            raise ValueError(f"{what}: there is a mask but nothing to keep: give the picture too.")
        if strength not in (None, 1):
            raise ValueError(f"{what}: a strength of {strength} needs a picture to start from.")
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


def _is_pil(value) -> bool:
    return isinstance(value, Image.Image)


def _pil(picture: Image.Image, what: str) -> torch.Tensor:
    if picture.mode in DEEP_MODES:
        raise ValueError(
            f"{what} is a picture of mode {picture.mode}: read it with utils.depth.read_disparity and bring it to "
            "[-1, 1] with normalize_disparity."
        )
    return to_pixels(picture)[None]


def _stack(pictures: list[torch.Tensor], what: str) -> torch.Tensor:
    shapes = sorted({tuple(picture.shape[1:]) for picture in pictures})
    if len(shapes) != 1:
        raise ValueError(f"{what}: pictures of one call have one size, not {', '.join(map(str, shapes)) or 'none'}.")
    return torch.cat(pictures)
