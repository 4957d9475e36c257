"""What visitors send, looked at again on the server: images, numbers and texts within limits."""

from collections.abc import Sequence

import gradio as gr

from utils.commands.settings import check
from utils.depth import depth_size
from utils.images import image_size
from utils.video import decode, index_frames

MAX_FILE = "32mb"
MAX_SIDE = 8192  # pixels
MAX_FRAMES = 2000  # of a video that is sent
MAX_VIDEO_SIDE = 2048  # pixels
MAX_TEXT = 1000  # characters of a prompt
MAX_SEED = 2**32 - 1
SOURCES = ["upload", "clipboard"]


class ImageFile(gr.Image):
    """An image that is passed on as the file it was sent as: 16 bits stay, and nothing is decoded before the checks."""

    is_template = True  # in the browser it is the component of its base class

    def preprocess(self, payload) -> str | None:
        return None if payload is None else payload.path


def image_file(label: str, **options) -> ImageFile:
    """An `ImageFile` that takes files and what is pasted."""
    given = {"type": "filepath", "sources": SOURCES, "buttons": [], "image_mode": None, "height": 180}
    return ImageFile(label=label, **given | options)


class VideoFile(gr.Video):
    """A video that is passed on as the file it was sent as."""

    is_template = True  # as above

    def preprocess(self, payload) -> str | None:
        return None if payload is None else payload.path


def video_file(label: str, **options) -> VideoFile:
    """A `VideoFile` that takes files."""
    given = {"sources": ["upload"], "buttons": [], "height": 180}
    return VideoFile(label=label, **given | options)


def check_video(name: str, path: str | None, most: int = MAX_FRAMES) -> str | None:
    """The path of a video, of which one frame is decoded.

    Raises:
        ValueError, OSError: It is no video, or one of more than `most` frames or `MAX_VIDEO_SIDE` pixels a side.
    """
    if not path:
        return None
    index = index_frames(path)
    if len(index) > most:
        raise ValueError(f"{name} has {len(index)} frames: send one of at most {most}.")
    height, width, _ = next(decode(path, [0], index)).shape
    if max(width, height) > MAX_VIDEO_SIDE:
        raise ValueError(f"{name} has {width}x{height} pixels: send one of at most {MAX_VIDEO_SIDE} a side.")
    return path


def check_image(name: str, path: str | None, deep: bool = False) -> str | None:
    """The path of an image; nothing is decoded where headers suffice.

    Args:
        name: What the page calls it.
        deep: Whether it may be a depth image of any format that `utils.depth` reads.

    Raises:
        ValueError, OSError: It is no image, or one of more than `MAX_SIDE` pixels a side.
    """
    if not path:
        return None
    width, height = depth_size(path) if deep else image_size(path)
    if max(width, height) > MAX_SIDE:
        raise ValueError(f"{name} has {width}x{height} pixels: send one of at most {MAX_SIDE} a side.")
    return path


def check_text(name: str, text: str | None) -> str:
    """A text without surrounding spaces; raises ValueError for a long one, and for what is no text."""
    if not isinstance(text, str | None):
        raise ValueError(f"{name} is no text: send a string.")
    text = (text or "").strip()
    if len(text) > MAX_TEXT:
        raise ValueError(f"{name} has {len(text)} characters: shorten it to {MAX_TEXT}.")
    return text


def check_whole(name: str, value, low: int, high: int) -> int:
    """A whole number in a range, also where a page sends 3.0; raises ValueError for any other."""
    value = int(value) if isinstance(value, float) and value.is_integer() else value
    check(name, value, int, low=low, high=high)
    return value


def check_number(name: str, value, low: float, high: float) -> float:
    """A number in a range; raises ValueError for any other."""
    check(name, value, low=low, high=high)
    return float(value)


def check_choice(name: str, value, choices: Sequence[str]) -> str:
    """One of the choices; raises ValueError for any other value."""
    check(name, value, str, choices=tuple(choices))
    return value
