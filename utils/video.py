"""Video files through PyAV. Frames are uint8 (F, H, W, 3) on this side, and pixels (F, 3, H, W) in [-1, 1] where a network sees them."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image

from utils.files import replacing

VIDEO_SUFFIXES = {".mp4", ".mov", ".webm", ".mkv", ".avi", ".m4v", ".gif"}
Source = str | Path | BytesIO


@dataclass(frozen=True)
class Video:
    """Pixels (F, 3, H, W) in [-1, 1] and frames per second."""

    pixels: torch.Tensor
    fps: float


def read_video(source: Source, start: int = 0, num_frames: int | None = None, fps: float | None = None) -> Video:
    """Read a stretch of a video.

    Args:
        source: File, or its bytes.
        start: First frame, counted in the file.
        num_frames: How many; all that follow, by default.
        fps: Frames per second to read it at; each one is the frame that is shown at that time. The file's own, by default.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read, or has fewer frames than asked for.
    """
    times = frame_times(source)
    own_fps = _fps(times)
    indices = choose_frames(source, times, start, num_frames, fps)
    frames = decode(source, indices, times)
    return Video(to_pixels(frames), float(fps or own_fps))


def frame_times(source: Source) -> list[Fraction]:
    """When each frame is shown, in seconds from the first, without decoding."""
    with _opened(source) as (container, stream):
        stamps = sorted({packet.pts for packet in container.demux(stream) if packet.pts is not None})
        times = [(stamp - stamps[0]) * stream.time_base for stamp in stamps]
    if not times:
        raise ValueError(f"{_name(source)} has no frame.")
    return times


def choose_frames(source: Source, times: Sequence[Fraction], start: int, num_frames: int | None, fps: float | None):
    """Numbers of the frames to read; see `read_video`."""
    if fps is None:
        indices = list(range(start, len(times)))
    else:
        step, begin = Fraction(1 / fps).limit_denominator(100_000), times[min(start, len(times) - 1)]
        end = times[-1] + 1 / Fraction(_fps(times)).limit_denominator(100_000)
        count = max(1, -(-(end - begin) // step)) if start < len(times) else 0
        indices = [bisect_right(times, begin + k * step) - 1 for k in range(int(count))]
    if not indices or len(indices) < (num_frames or 1):
        raise ValueError(
            f"{_name(source)} has {len(indices)} frames from frame {start} on; {num_frames or 1} are needed."
        )
    return indices[:num_frames]


def decode(source: Source, indices: Sequence[int], times: Sequence[Fraction]) -> np.ndarray:
    """Frames uint8 (F, H, W, 3) of ascending numbers; decoding begins at the key frame before the first."""
    wanted = {times[index]: None for index in indices}
    with _opened(source) as (container, stream):
        first = min((p.pts for p in container.demux(stream) if p.pts is not None), default=0)
        container.seek(first + int(times[indices[0]] / stream.time_base), stream=stream)
        for frame in container.decode(stream):
            time = (frame.pts - first) * stream.time_base
            if time in wanted:
                wanted[time] = frame.to_ndarray(format="rgb24")
            if time >= times[indices[-1]]:
                break
    missing = [index for index in indices if wanted[times[index]] is None]
    if missing:
        raise ValueError(f"{_name(source)} is damaged: frame {missing[0]} of {len(times)} cannot be decoded.")
    return np.stack([wanted[times[index]] for index in indices])


def write_video(path: str | Path, video: torch.Tensor | np.ndarray, fps: float, crf: int = 18) -> None:
    """Write H.264 that browsers play (yuv420p, index in front).

    That format needs even sides: an odd one gets its last row or column twice.

    Args:
        path: A name that ends in .mp4.
        video: Pixels (F, 3, H, W) in [-1, 1], or frames uint8 (F, H, W, 3).
        fps: Frames per second.
        crf: Quality, 0 (lossless) to 51.
    """
    if Path(path).suffix != ".mp4":
        raise ValueError(f"{path}: H.264 is written as .mp4.")
    frames = to_frames(video)
    frames = np.pad(frames, ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)), mode="edge")
    with replacing(path) as temporary, av.open(temporary, "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options={"crf": str(crf)})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())


def write_gif(path: str | Path, video: torch.Tensor | np.ndarray, fps: float) -> None:
    """Write an endless GIF, of the frame time that is nearest to 1 / fps (GIFs count hundredths of seconds)."""
    first, *others = [Image.fromarray(frame) for frame in to_frames(video)]
    duration = max(2, round(100 / fps)) * 10
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


def _fps(times: Sequence[Fraction]) -> float:
    """Mean rate over the file; a still of one frame counts as one per second."""
    return float((len(times) - 1) / times[-1]) if len(times) > 1 else 1.0


@contextmanager
def _opened(source: Source) -> Iterator:
    """Container and video stream; whatever FFmpeg complains about inside becomes one sentence."""
    if isinstance(source, BytesIO):
        source.seek(0)
    elif not Path(source).is_file():
        raise FileNotFoundError(f"There is no video {source}.")
    try:
        with av.open(source) as container:
            if not container.streams.video:
                raise ValueError(f"{_name(source)} has no picture, only {len(container.streams)} other streams.")
            yield container, container.streams.video[0]
    except av.FFmpegError as error:
        raise ValueError(f"{_name(source)} cannot be read as a video: {error.strerror}.") from error


def _name(source: Source) -> str:
    return "The video" if isinstance(source, BytesIO) else str(source)
