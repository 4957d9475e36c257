"""The images that a video passes through: which they are, whether they fit one another, and their pixels."""

import torch

from pipelines.sizes import fit_image
from utils.images import image_size, read_image

SAME_RATIO = 0.02  # by which the ratios of the sides of two keyframes may differ


def list_keyframes(first: str | None, last: str | None, keyframes: list[str] | None, loop: bool) -> list[str]:
    """Files of the keyframes, in order.

    Raises:
        ValueError: There are fewer than two, or two ways to pass them are mixed.
    """
    if keyframes and (first or last):
        raise ValueError("--keyframes are all images of the video: leave out --first and --last.")
    paths = list(keyframes or [path for path in (first, last) if path])
    if loop:
        paths += paths[:1]
    if len(paths) < 2:
        raise ValueError("There are fewer than two keyframes: pass --first and --last, or --keyframes, or --loop.")
    if not keyframes and not first:
        raise ValueError(f"--last {last} has no first frame: pass --first.")
    return paths


def check_shapes(paths: list[str], cropped: bool) -> None:
    """Raises ValueError for images whose sides are not in one ratio, unless a height and a width crop all of them."""
    sizes = [image_size(path) for path in paths]
    for path, (width, height) in zip(paths, sizes, strict=True):
        if abs(width / height * sizes[0][1] / sizes[0][0] - 1) > SAME_RATIO and not cropped:
            raise ValueError(
                f"{path} has {width}x{height} pixels and {paths[0]} {sizes[0][0]}x{sizes[0][1]}, which is another "
                "shape: crop one of them, or pass --height and --width to crop both."
            )


def fit_keyframes(pipe, paths: list[str], height: int | None, width: int | None) -> list[torch.Tensor]:
    """Keyframes (3, H, W) in [-1, 1], all of the size that the first one is fitted to."""
    first = fit_image(pipe, read_image(paths[0]), height, width, paths[0])
    return [first, *(fit_image(pipe, read_image(path), *first.shape[-2:], path) for path in paths[1:])]
