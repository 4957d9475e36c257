"""What a video edit reads: the video, its masks, and the sizes and lengths that its two bases take; all in one size."""

import math
from pathlib import Path

import torch
from tqdm.auto import tqdm

from pipelines.edit_keyframes import check_interval
from pipelines.layouts import Layout, check_ratio, check_sides, scale_size
from utils.data.clip_frames import ClipFrames, open_frames
from utils.files import is_file, is_folder
from utils.formats.folders import IMAGE_SUFFIXES
from utils.images import cover, read_image, to_pixels
from utils.messages.words import count
from utils.video import to_pixels as video_pixels

WHITE = 0.0  # above it a pixel in [-1, 1] of a mask is white


def choose_size(
    size: tuple[int, int], image: Layout, video: Layout, height: int | None = None, width: int | None = None
) -> tuple[int, int]:
    """Height and width that both bases take: those asked for, else the shape of the video at the image base's size.

    Raises:
        ValueError: A side that was asked for is none that both divide, or the video is too long a shape.
    """
    multiple = math.lcm(image.multiple, video.multiple)
    check_sides(height, width, multiple)
    check_ratio(size, height, width)
    return scale_size(size, height, width, multiple, image.own_scale)


def open_clip(path: str, interval: int) -> ClipFrames:
    """The frames of a video file or of a folder of numbered frames; none are read yet.

    Raises:
        FileNotFoundError: There is neither.
        ValueError: There are too few for the interval.
    """
    clip = open_frames(path, "--input_video")
    check_interval(len(clip), interval, path)
    return clip


def first_size(clip: ClipFrames) -> tuple[int, int]:
    """Height and width of its first frame."""
    return next(iter(clip.read([0]))).shape[:2]


def read_fitted(clip: ClipFrames, size: tuple[int, int]) -> torch.Tensor:
    """All frames (F, 3, H, W) in [-1, 1], resized and cropped to a size.

    Raises:
        ValueError: One is damaged, or of another size than the first.
    """
    frames = torch.stack([cover(video_pixels(frame[None])[0], size) for frame in clip.read(range(len(clip)))])
    found = first_size(clip)
    if found != tuple(size):
        tqdm.write(f"{clip.name}: {found[1]}x{found[0]} pixels are resized and cropped to {size[1]}x{size[0]}.")
    return frames


def read_masks(path: str, clip: ClipFrames, size: tuple[int, int]) -> torch.Tensor:
    """Masks (1, 1, H, W) of an image, or (F, 1, H, W) of a video or a folder of numbered images; 1 where it is white.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: They are of another size than the frames, or not as many.
    """
    if Path(path).suffix.lower() in IMAGE_SUFFIXES:
        images = [to_pixels(read_image(path))]
    elif is_folder(path) or is_file(path):
        masks = open_frames(path, "--mask")
        if len(masks) != len(clip):
            raise ValueError(f"--mask {path} has {count(len(masks), 'frame')} and the video {len(clip)}: pass as many.")
        images = [video_pixels(frame[None])[0] for frame in masks.read(range(len(masks)))]
    else:
        raise FileNotFoundError(f"--mask {path} is neither auto, nor an image, nor a video, nor a folder of images.")
    (h, w), (H, W) = images[0].shape[-2:], first_size(clip)
    if (h, w) != (H, W):
        raise ValueError(f"--mask {path} is {w}x{h} and the video {W}x{H}: resize the mask to the size of the video.")
    white = [(cover(image, size).mean(dim=0, keepdim=True) > WHITE).float() for image in images]
    if not any(one.any() for one in white):
        raise ValueError(f"--mask {path} is black everywhere, so that nothing would be edited: paint white where to.")
    return torch.stack(white)
