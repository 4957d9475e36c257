"""Sizes of images and videos, and what users pass brought to them."""

import torch
from PIL import Image
from tqdm.auto import tqdm

from pipelines.layouts import Layout
from utils.flow.warp import resize_flow
from utils.images import cover, to_pixels


def fit_image(
    pipe, image: Image.Image, height: int | None = None, width: int | None = None, name: str = "The image"
) -> torch.Tensor:
    """Pixels (3, H, W) in [-1, 1] of an image, resized and cropped to the size of its results (`target_size`).

    Args:
        name: Of the image, in the line that says so.

    Raises:
        ValueError: The model does not divide a side.
    """
    return fit_pixels(pipe, to_pixels(image), height, width, name)


def fit_pixels(pipe, pixels: torch.Tensor, height: int | None, width: int | None, name: str) -> torch.Tensor:
    """Pixels (C, H, W) in [-1, 1], as `fit_image`."""
    return cover(pixels, settle_size(pipe, pixels, height, width, name))


def fit_video(
    pipe, pixels: torch.Tensor, height: int | None = None, width: int | None = None, name: str = "The video"
) -> torch.Tensor:
    """Frames (F, 3, H, W) in [-1, 1], each as `fit_image`."""
    size = settle_size(pipe, pixels, height, width, name)
    return pixels if pixels.shape[-2:] == size else torch.stack([cover(frame, size) for frame in pixels])


def fit_flow(
    pipe, flow: torch.Tensor, height: int | None = None, width: int | None = None, name: str = "The flow"
) -> torch.Tensor:
    """Flow (F - 1, 2, H, W) in pixels, resized and cropped as its frames would be by `fit_video`, with its vectors.

    Without height and width it keeps its size, up to the multiple that the model takes, and that of a large one is
    said.
    """
    H, W = flow.shape[-2:]
    if not height and not width:
        multiple = network_multiple(pipe)
        height, width = (max(1, round(side / multiple)) * multiple for side in (H, W))
        if own_scale(pipe, (H, W)) < 0.75:
            tqdm.write(f"The video has the size of {name}, {width}x{height}; --height and --width make it smaller.")
    size = settle_size(pipe, flow, height, width, name)
    scale = max(size[0] / H, size[1] / W)
    covering = [max(due, round(side * scale)) for due, side in zip(size, (H, W), strict=True)]
    top, left = ((side - due) // 2 for side, due in zip(covering, size, strict=True))
    return resize_flow(flow, tuple(covering))[..., top : top + size[0], left : left + size[1]]


def settle_size(pipe, pixels: torch.Tensor, height: int | None, width: int | None, name: str) -> tuple[int, int]:
    """`target_size` of pixels (…, H, W); says so where it is another one."""
    H, W = pixels.shape[-2:]
    size = target_size(pipe, height, width, (H, W))
    if size != (H, W):
        tqdm.write(f"{name}: {W}x{H} pixels are resized and cropped to {size[1]}x{size[0]}.")
    return size


def target_size(pipe, height: int | None, width: int | None, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the results of a pipeline from what has this (height, width): `Layout.target_size`."""
    return Layout.of(pipe).target_size(height, width, size)


def own_scale(pipe, size: tuple[int, int]) -> float:
    """What brings this (height, width) to the model's own size."""
    return Layout.of(pipe).own_scale(size)


def network_multiple(pipe) -> int:
    """What divides the sides of all results of a pipeline."""
    return Layout.of(pipe).multiple


def check_num_frames(num_frames: int | None) -> None:
    """Raises ValueError for a number of frames that makes no video."""
    if num_frames == 1:
        raise ValueError("num_frames 1 is no video: pass 2 or more.")


def check_gap_frames(num_frames: int | None) -> None:
    """Raises ValueError for a number of frames, both keyframes among them, that has none between the two."""
    if num_frames is not None and num_frames < 3:
        raise ValueError(f"--num_frames {num_frames} leaves no frame between two keyframes: pass 3 or more.")
