"""Sizes of videos, and images brought to them."""

import torch
from PIL import Image
from tqdm.auto import tqdm

from utils.images import cover, to_pixels


def fit_image(
    pipe, image: Image.Image, height: int | None = None, width: int | None = None, name: str = "The image"
) -> torch.Tensor:
    """Pixels (3, H, W) in [-1, 1] of an image, resized and cropped to the size of its video (`target_size`).

    Args:
        name: Of the image, in the line that says so.

    Raises:
        ValueError: The model does not divide a side.
    """
    pixels = to_pixels(image)
    H, W = pixels.shape[-2:]
    size = target_size(pipe, height, width, (H, W))
    if size != (H, W):
        tqdm.write(f"{name}: {W}x{H} pixels are resized and cropped to {size[1]}x{size[0]}.")
    return cover(pixels, size)


def target_size(pipe, height: int | None, width: int | None, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the video of an image of this (height, width); a missing side keeps the image's shape, two the model's number of pixels."""
    check_size(pipe, height, width)
    H, W = size
    own_side = pipe.unet.config.sample_size * pipe.vae_scale_factor
    scale = own_side / (H * W) ** 0.5
    if height or width:
        scale = height / H if height else width / W
    rounded = [max(1, round(side * scale / pipe.size_multiple)) * pipe.size_multiple for side in size]
    return height or rounded[0], width or rounded[1]


def check_size(pipe, height: int | None, width: int | None) -> None:
    """Raises ValueError for a side that the model does not divide."""
    for name, side in (("height", height), ("width", width)):
        if side and side % pipe.size_multiple:
            raise ValueError(f"{name} {side} is not a multiple of {pipe.size_multiple}: choose another.")


def check_num_frames(num_frames: int | None) -> None:
    """Raises ValueError for a number of frames that makes no video."""
    if num_frames == 1:
        raise ValueError("num_frames 1 is no video: pass 2 or more.")
