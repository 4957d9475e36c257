"""Which stream of a video is shown, and what a frame shows: upright, in square pixels, transparent parts white."""

from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
from av.sidedata.sidedata import Type
from av.stream import Disposition
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

STILLS = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
STILL_CODECS = {"mjpeg", "png", "bmp", "gif", "webp", "tiff"}
LARGEST_ASPECT = 16  # of a pixel; a larger one is an error of the file


def choose_stream(streams: Sequence[VideoStream], name: str) -> VideoStream:
    """The stream that a player shows: never a cover or a thumbnail; the default one, or else the first.

    Some containers lose the mark of a cover: where there is another, no stream of a codec for stills or of one frame.

    Raises:
        ValueError: There is none. name: What the message calls the file.
    """
    moving = [stream for stream in streams if not stream.disposition & STILLS]
    if not moving:
        raise ValueError(f"{name} has no video, only sound, data or a cover.")
    return min(moving, key=_rank)


def _rank(stream: VideoStream) -> tuple[bool, ...]:
    codec = stream.codec_context
    still = codec is None or codec.name in STILL_CODECS
    return codec is None, still, stream.frames == 1, not stream.disposition & Disposition.default


def pixel_aspect(stream: VideoStream, name: str) -> Fraction:
    """Width of a stored pixel in units of its height; raises ValueError where it cannot be."""
    aspect = Fraction(stream.sample_aspect_ratio or 1)
    if not 1 / LARGEST_ASPECT <= aspect <= LARGEST_ASPECT:
        raise ValueError(
            f"{name} says that its pixels are {float(aspect):g} as wide as high: correct its aspect ratio."
        )
    return aspect


def show_frame(frame: av.VideoFrame, aspect: Fraction, reformatter: VideoReformatter) -> np.ndarray:
    """uint8 (H, W, 3). aspect: Width of a stored pixel in units of its height; the shorter side of it is stretched."""
    width, height = square_size(frame.width, frame.height, aspect)
    transparent = any(component.is_alpha for component in frame.format.components)
    frame_format = "rgba" if transparent else "rgb24"
    values = reformatter.reformat(frame, width=width, height=height, format=frame_format).to_ndarray()
    return np.ascontiguousarray(turn_upright(on_white(values) if transparent else values, display_matrix(frame)))


def square_size(width: int, height: int, aspect: Fraction) -> tuple[int, int]:
    """Width and height in square pixels that keep all stored columns and lines."""
    return (round(width * aspect), height) if aspect >= 1 else (width, round(height / aspect))


def display_matrix(frame: av.VideoFrame) -> np.ndarray | None:
    """int32 (3, 3), whose upper left (2, 2) maps stored (x, y), as a row, onto shown ones; None without one."""
    data = frame.side_data.get(Type.DISPLAYMATRIX)
    return None if data is None else np.frombuffer(bytes(data), np.int32).reshape(3, 3)


def turn_upright(frame: np.ndarray, matrix: np.ndarray | None) -> np.ndarray:
    """(H, W, C) turned and mirrored by the one of the eight matrices of quarter turns that is nearest."""
    if matrix is None:
        return frame
    (a, b), (c, d) = matrix[:2, :2].tolist()
    x, y = a, d
    if abs(b) + abs(c) > abs(a) + abs(d):
        frame, x, y = frame.swapaxes(0, 1), c, b
    frame = frame[:, ::-1] if x < 0 else frame
    return frame[::-1] if y < 0 else frame


def on_white(values: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 4), alpha last and not multiplied in, laid on white."""
    colors, alpha = values[..., :3].astype(np.uint32), values[..., 3:].astype(np.uint32)
    return ((colors * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
