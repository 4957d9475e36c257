"""Video files through PyAV. Frames are uint8 (F, H, W, 3) here, and pixels (F, 3, H, W) in [-1, 1] for networks."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from io import BytesIO
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import torch
from av.video.reformatter import Colorspace, VideoReformatter
from PIL import Image

from utils.files import is_file, replacing
from utils.formats.frame_rates import check_fps
from utils.formats.frames import choose_stream, pixel_aspect, show_frame
from utils.messages.words import count

VIDEO_SUFFIXES = {".mp4", ".mov", ".webm", ".mkv", ".avi", ".m4v", ".gif"}
BT709, LIMITED_RANGE = 1, 1  # ITU-T H.273; players guess at the colours of a file without them
PROBED_FRAMES = 250  # the usual distance of key frames: a stream that reorders frames does it before
Source = str | Path | BytesIO  # a BytesIO may have a `name` for error messages


@dataclass(frozen=True)
class Video:
    """Pixels (F, 3, H, W) in [-1, 1] and frames per second."""

    pixels: torch.Tensor
    fps: float


@dataclass(frozen=True)
class FrameIndex:
    """When each frame of a file is shown, and how.

    Attributes:
        stamps: Ascending, in units of `unit` seconds.
        aspect: Width of a stored pixel in units of its height.
        counted: Whether the file does not tell when frames are shown: they are then counted from the first one.
    """

    stamps: tuple[int, ...]
    unit: Fraction
    aspect: Fraction = Fraction(1)
    counted: bool = False

    def __len__(self) -> int:
        return len(self.stamps)

    @cached_property
    def times(self) -> list[Fraction]:
        """Seconds from the first frame."""
        return [(stamp - self.stamps[0]) * self.unit for stamp in self.stamps]

    @property
    def fps(self) -> float:
        """Mean rate over the file; a still of one frame counts as one per second."""
        return float((len(self) - 1) / self.times[-1]) if len(self) > 1 else 1.0

    @cached_property
    def numbers(self) -> dict[int, int]:
        """Number of the frame of each stamp."""
        return {stamp: number for number, stamp in enumerate(self.stamps)}

    def resample(self, fps: float | None, start: int = 0) -> list[int]:
        """Numbers of the frames that are nearest to k / fps seconds after frame `start`; all from there, by default."""
        if fps is None or start >= len(self):
            return list(range(start, len(self)))
        if fps <= 0:
            raise ValueError(f"fps={fps} is not positive.")
        step = 1 / Fraction(fps).limit_denominator(100_000)
        length = self.times[-1] - self.times[start] + 1 / Fraction(self.fps).limit_denominator(100_000)
        return [self._nearest(self.times[start] + k * step) for k in range(max(1, round(length / step)))]

    def _nearest(self, time: Fraction) -> int:
        after = min(bisect_right(self.times, time), len(self) - 1)
        before = max(after - 1, 0)
        return before if time - self.times[before] <= self.times[after] - time else after


class Times(NamedTuple):
    """Times of a packet: when its frame is shown and decoded, if the file says so, and whether it is never shown."""

    shown: int | None
    decoded: int | None
    hidden: bool


def read_video(source: Source, start: int = 0, num_frames: int | None = None, fps: float | None = None) -> Video:
    """Read a stretch of a video.

    Args:
        source: File, or its bytes.
        start: First frame, counted in the file.
        num_frames: How many; all that follow, by default.
        fps: Frames per second to read it at; each one is the frame nearest to its time. The file's own, by default.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read, is damaged, or has fewer frames than asked for.
    """
    if start < 0 or (num_frames is not None and num_frames < 1):
        raise ValueError(f"start={start} counts from 0 and num_frames={num_frames} from 1.")
    index = index_frames(source)
    numbers = index.resample(fps, start)
    needed = num_frames or 1
    if len(numbers) < needed:
        rate = f" at {fps:g} fps" if fps else ""
        raise ValueError(
            f"{name_of(source)} has {count(len(numbers), 'frame')} from frame {start} on{rate}, not {needed}."
        )
    frames = np.stack(list(decode(source, numbers[:num_frames], index)))
    return Video(to_pixels(frames), float(fps or index.fps))


def index_frames(source: Source) -> FrameIndex:
    """When the frames are shown, without decoding them; a few are decoded where it is not clear what the file tells.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read, or is cut short.
    """
    with _opened(source) as (container, stream):
        packets = [_times(packet) for packet in container.demux(stream) if packet.pts is not None or packet.size]
        announced = stream.frames if "mp4" in container.format.name else 0
        unit, rate, aspect = stream.time_base, stream.guessed_rate or 25, pixel_aspect(stream, name_of(source))
        reorders = stream.codec_context.has_b_frames
    if len(packets) < announced:
        raise ValueError(f"{name_of(source)} is cut short: it has {len(packets)} of its {announced} frames.")
    packets = [packet for packet in packets if not packet.hidden]
    if not packets:
        raise ValueError(f"{name_of(source)} has no frame.")
    shown, decoded = [packet.shown for packet in packets], [packet.decoded for packet in packets]
    # Where a container has no times of showing, FFmpeg takes those of decoding: they rise though frames are reordered.
    if None not in shown and not (reorders and rises(shown) and not _shown_in_order(source)):
        return FrameIndex(tuple(sorted(set(shown))), unit, aspect)
    if None not in decoded and len(set(decoded)) == len(decoded):
        return FrameIndex(tuple(sorted(decoded)), unit, aspect, counted=True)
    return FrameIndex(tuple(range(len(packets))), 1 / Fraction(rate), aspect, counted=True)


def decode(source: Source, numbers: Sequence[int], index: FrameIndex) -> Iterator[np.ndarray]:
    """Frames uint8 (H, W, 3) of ascending numbers, which may repeat; only what lies between them is decoded too.

    They are as players show them: upright, in square pixels, transparent parts white.

    Raises:
        ValueError: A frame on the way is damaged.
    """
    places = iter(numbers)
    number = next(places)
    reformatter = VideoReformatter()
    for found, frame in _frames_from(source, index, number):
        if frame.is_corrupt:
            break
        if found != number:
            continue
        shown = show_frame(frame, index.aspect, reformatter)
        following = number
        while following == number:
            yield shown
            following = next(places, None)
        if following is None:
            return
        number = following
    raise ValueError(f"{name_of(source)} is damaged: frame {number} of {len(index)} cannot be decoded.")


def write_video(path: str | Path, video: torch.Tensor | np.ndarray, fps: float, crf: int = 18) -> None:
    """Write H.264 that browsers play (yuv420p, index in front). A file of that name is replaced.

    That format needs even sides: an odd one gets its last row or column twice.

    Args:
        path: A name that ends in .mp4.
        video: Pixels (F, 3, H, W) in [-1, 1], or frames uint8 (F, H, W, 3).
        fps: Frames per second.
        crf: Quality, 0 (almost lossless) to 51.
    """
    if Path(path).suffix.lower() != ".mp4":
        raise ValueError(f"{path}: H.264 is written as .mp4.")
    check_fps(fps, path)
    frames = to_frames(video)
    frames = np.pad(frames, ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)), mode="edge")
    rate = Fraction(fps).limit_denominator(1001)
    with replacing(path) as temporary, av.open(temporary, "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": str(crf)})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.color_primaries = context.color_trc = context.colorspace = BT709
        context.color_range = LIMITED_RANGE
        reformatter = VideoReformatter()
        for frame in frames:
            rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            yuv = reformatter.reformat(rgb, format="yuv420p", dst_colorspace=Colorspace.ITU709)
            container.mux(stream.encode(yuv))
        container.mux(stream.encode())


def write_gif(path: str | Path, video: torch.Tensor | np.ndarray, fps: float) -> None:
    """Write an endless GIF, of the frame time that is nearest to 1 / fps (GIFs count hundredths of seconds)."""
    check_fps(fps, path)
    first, *others = [Image.fromarray(frame) for frame in to_frames(video)]
    duration = round(100 / fps) * 10
    with replacing(path) as temporary:
        first.save(temporary, format="GIF", save_all=True, append_images=others, duration=duration, loop=0)


def contact_sheet(video: torch.Tensor | np.ndarray, columns: int = 8, count: int | None = None) -> Image.Image:
    """Frames side by side, row by row; `count` of them spread over the video, or all."""
    frames = to_frames(video)
    if count is not None and count < len(frames):
        frames = frames[np.linspace(0, len(frames) - 1, count).round().astype(int)]
    _, H, W, _ = frames.shape
    columns = min(columns, len(frames))
    sheet = Image.new("RGB", (columns * W, -(-len(frames) // columns) * H), "white")
    for index, frame in enumerate(frames):
        sheet.paste(Image.fromarray(frame), (index % columns * W, index // columns * H))
    return sheet


def to_pixels(frames: np.ndarray) -> torch.Tensor:
    """Frames uint8 (F, H, W, 3) as pixels (F, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float().div(127.5).sub(1)


def to_frames(video: torch.Tensor | np.ndarray) -> np.ndarray:
    """Pixels (F, 3, H, W) in [-1, 1] as frames uint8 (F, H, W, 3), clipped; frames stay as they are."""
    if isinstance(video, torch.Tensor) and video.ndim == 4 and video.shape[1] == 3 and video.is_floating_point():
        values = video.detach().float().cpu().clamp(-1, 1).add(1).mul(127.5).round().byte()
        video = values.permute(0, 2, 3, 1).numpy()
    if not isinstance(video, np.ndarray) or video.ndim != 4 or video.shape[-1] != 3 or video.dtype != np.uint8:
        raise ValueError(
            "A video is a tensor (F, 3, H, W) of floats in [-1, 1] or an array (F, H, W, 3) of uint8, "
            f"not {type(video).__name__} {tuple(video.shape)} {video.dtype}."
        )
    if len(video) == 0:
        raise ValueError("The video has no frame.")
    return video


def name_of(source: Source) -> str:
    """What error messages call it."""
    return str(getattr(source, "name", "The video")) if isinstance(source, BytesIO) else str(source)


def _frames_from(source: Source, index: FrameIndex, number: int) -> Iterator[tuple[int | None, av.VideoFrame]]:
    """Decoded frames with their numbers, beginning with the one of `number` or before."""
    if not index.counted:
        with _opened(source) as (container, stream):
            container.seek(index.stamps[number], stream=stream)
            frames = container.decode(stream)
            first = next(frames, None)
            if first is not None and first.pts is not None and first.pts <= index.stamps[number]:
                yield from ((index.numbers.get(frame.pts), frame) for frame in chain([first], frames))
                return
    # Some files seek to the key frame after the stamp.
    with _opened(source) as (container, stream):
        for count, frame in enumerate(container.decode(stream)):
            yield (count if index.counted else index.numbers.get(frame.pts)), frame


def _times(packet: av.Packet) -> Times:
    # An MP4 may keep frames for decoding alone, in front of the part that is shown; an empty packet has no frame.
    return Times(packet.pts, packet.dts, packet.is_discard or not packet.size)


def rises(stamps: Sequence[int]) -> bool:
    return all(before < after for before, after in pairwise(stamps))


def _shown_in_order(source: Source) -> bool:
    """Whether the first decoded frames, which come in the order of showing, bear rising times."""
    stamps = []
    with _opened(source) as (container, stream), suppress(av.FFmpegError):
        stamps.extend(frame.pts for frame in islice(container.decode(stream), PROBED_FRAMES))
    return None not in stamps and rises(stamps)


@contextmanager
def _opened(source: Source) -> Iterator:
    """Container and video stream; whatever FFmpeg complains about inside becomes one sentence."""
    if isinstance(source, BytesIO):
        source.seek(0)
    elif not is_file(Path(source)):
        raise FileNotFoundError(f"There is no video {source}.")
    try:
        with av.open(source) as container:
            yield container, choose_stream(container.streams.video, name_of(source))
    except (av.FFmpegError, EOFError) as error:
        reason = getattr(error, "strerror", None) or "it ends early"
        raise ValueError(f"{name_of(source)} cannot be read as a video: {reason}.") from error
