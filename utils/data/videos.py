"""Clips with caption, rate, and when asked for flow and tracks, as the networks see them."""

import logging
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NotRequired, TypedDict

import torch
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from utils.data.clip_frames import ClipFrames
from utils.data.clip_geometry import ClipGeometry
from utils.data.clip_options import ClipOptions
from utils.data.control_files import read_control
from utils.data.flow_folder import open_flow, read_flow
from utils.data.video_records import CONTROLS, VideoRecord, read_video_records
from utils.files import is_file
from utils.formats.arrays import read_arrays
from utils.messages.words import count
from utils.video import to_pixels

logger = logging.getLogger(__name__)
ANNOTATE = "make it with python -m utils.data.annotate_flow"
EXTRAS = {  # and what to do about a clip without
    "flow": ANNOTATE,
    "backward_flow": ANNOTATE,
    "tracks": "name their file in metadata.jsonl as tracks_file_name",
    **{name: f"name its folder or video in metadata.jsonl as {name}_file_name" for name in CONTROLS},
}


class VideoSample(TypedDict):
    """A sample, and with a leading B a batch.

    Keys:
        pixel_values: Clip (F, 3, H, W) in [-1, 1].
        fps: Frames per second of these frames, after `fps` and `frame_stride`.
        caption: Text.
        key: Name of the clip within its data set.
        flow: (F - 1, 2, H, W), pixels, x then y, from each frame to the next.
        backward_flow: (F - 1, 2, H, W), from the next frame to each.
        tracks: (F, N, 2), pixels, x then y; points may lie outside of the crop.
        visible: bool (F, N), false for points outside of the crop, too.
        depth: Disparity (F, 1, H, W) in [-1, 1], larger is nearer; one map from all frames.
        segmentation, control: (F, 3, H, W) in [-1, 1].
    """

    pixel_values: torch.Tensor
    fps: float
    caption: str
    key: str
    flow: NotRequired[torch.Tensor]
    backward_flow: NotRequired[torch.Tensor]
    tracks: NotRequired[torch.Tensor]
    visible: NotRequired[torch.Tensor]
    depth: NotRequired[torch.Tensor]
    segmentation: NotRequired[torch.Tensor]
    control: NotRequired[torch.Tensor]


class VideoDataset(Dataset):
    """Samples of a list of records; stretch, crop and flip are random at each access (`random`).

    Args:
        records: Clips and captions (`utils.data.video_records.read_video_records`).
        options: Frames and crop.
        extras: What of `EXTRAS` belongs to a sample.
        skip_bad_clips: Take the next clip in place of one that is damaged or too short, and count it (`num_skipped`).

    Raises:
        ValueError: A record lacks an extra, or its flow was made for other frames.
    """

    def __init__(
        self,
        records: Sequence[VideoRecord],
        options: ClipOptions,
        extras: Sequence[str] = (),
        skip_bad_clips: bool = False,
    ):
        _check_extras(records, options, extras)
        self.records = list(records)
        self.options = options
        self.extras = tuple(extras)
        self.skip_bad_clips = skip_bad_clips
        self.checked = False  # whether all clips are known to be good, as far as `check` tells
        self.bad = torch.zeros(len(self.records), dtype=torch.bool).share_memory_()  # seen by all data workers

    def __len__(self) -> int:
        return len(self.records)

    @property
    def num_skipped(self) -> int:
        """Clips found bad so far, with `skip_bad_clips`."""
        return int(self.bad.sum())

    def __getitem__(self, index: int) -> VideoSample:
        if not self.skip_bad_clips:
            return self.draw(index)
        for candidate in [*range(index, len(self)), *range(index)]:
            state = random.getstate()
            if not self.bad[candidate]:
                try:
                    return self.draw(candidate)
                except (ValueError, FileNotFoundError) as error:
                    self.skip(candidate, error)
                    # A known bad clip draws no random number, so neither may one that turns out to be bad.
                    random.setstate(state)
        raise ValueError(f"No clip of {len(self)} is good; without --skip_bad_clips the first one says why.")

    def draw(self, index: int) -> VideoSample:
        """Sample `index` with a stretch, crop and flip drawn from `random`."""
        options, record = self.options, self.records[index]
        frames = ClipFrames(record, options.fps)
        step = random.choice(options.frame_strides) if len(options.frame_strides) > 1 else options.frame_strides[0]
        room = self._count(record, frames) - (options.stretch(0, step)[-1] + 1)
        start = 0 if options.first_frames else random.randint(0, room)
        geometry = ClipGeometry.draw(options.height, options.width, options.center_crop, options.random_flip)
        sample = self._sample(record, frames, options.stretch(start, step), geometry)
        return reverse(sample) if options.random_reverse and random.random() < 0.5 else sample

    def sample(self, index: int, geometry: ClipGeometry, start: int = 0) -> VideoSample:
        """Sample `index` from frame `start` on at the smallest step, forwards, cropped by a given geometry.

        Raises:
            FileNotFoundError, ValueError: A file is missing, damaged or too short.
        """
        frames = ClipFrames(self.records[index], self.options.fps)
        numbers = self.options.stretch(start, min(self.options.frame_strides))
        room = self._count(self.records[index], frames) - len(range(start, numbers[-1] + 1))
        if not 0 <= start <= room:
            raise ValueError(f"{frames.name}: start={start} is not in 0 to {room}.")
        return self._sample(self.records[index], frames, numbers, geometry)

    def held_out(self, index: int) -> VideoSample:
        """The first stretch of the frames that are held out, cropped at the centre.

        Raises:
            ValueError: They are fewer than a stretch has.
        """
        whole = VideoDataset([self.records[index]], replace(self.options, held_out_frames=0), self.extras)
        end = whole._count(whole.records[0], ClipFrames(whole.records[0], self.options.fps))
        return whole.sample(
            0, ClipGeometry(self.options.height, self.options.width), end - self.options.held_out_frames
        )

    def check(self, first: int | None = None) -> None:
        """Look at all clips, or the first ones, without decoding them, before a training meets a bad one after hours.

        Raises:
            FileNotFoundError, ValueError: A clip is missing, damaged or too short, unless `skip_bad_clips` counts it.
        """
        for index, record in enumerate(tqdm(self.records[:first], desc="check clips")):
            try:
                self._count(record, ClipFrames(record, self.options.fps))
                record.read_caption()
            except (ValueError, FileNotFoundError) as error:
                if not self.skip_bad_clips:
                    raise
                self.skip(index, error)

    def without_bad_clips(self) -> "VideoDataset":
        """The clips that `check` finds good; one that cannot be decoded may still be among them."""
        if self.checked:
            return self
        self.check()
        good = [record for record, bad in zip(self.records, self.bad, strict=True) if not bad]
        if not good:
            raise ValueError(f"No clip of {len(self)} is good; without --skip_bad_clips the first one says why.")
        checked = VideoDataset(good, self.options, self.extras, self.skip_bad_clips)
        checked.checked = True
        return checked

    def skip(self, index: int, error: Exception) -> None:
        """Count a clip as bad and say why."""
        self.bad[index] = True
        logger.warning("Clip %d of %d left out, %d so far: %s", index, len(self), self.num_skipped, error)

    def _sample(self, record: VideoRecord, frames: ClipFrames, numbers: range, geometry: ClipGeometry) -> VideoSample:
        images = [to_pixels(frame[None]) for frame in frames.read(numbers)]
        H, W = images[0].shape[-2:]
        sample = VideoSample(
            pixel_values=torch.cat([geometry.apply(image) for image in images]),
            fps=frames.fps / numbers.step,
            caption=record.read_caption(),
            key=record.key,
        )
        for name in {"flow", "backward_flow"} & set(self.extras):
            sample[name] = geometry.apply_flow(read_flow(getattr(record, name), numbers[:-1]), H, W)
        if "tracks" in self.extras:
            sample["tracks"], sample["visible"] = read_tracks(record.tracks, numbers, geometry, H, W)
        for name in set(CONTROLS) & set(self.extras):
            sample[name] = read_control(record, name, frames, numbers, geometry, H, W)
        return sample

    def _count(self, record: VideoRecord, frames: ClipFrames) -> int:
        """Frames that can be used: those of the clip, as far as its annotations reach."""
        counts = [len(frames)]
        counts += [
            len(open_flow(getattr(record, name))) + record.flow_stride
            for name in {"flow", "backward_flow"} & set(self.extras)
        ]
        needed = self.options.span + self.options.held_out_frames
        if min(counts) < needed:
            raise ValueError(
                f"{frames.name} has {count(min(counts), 'frame')} and {needed} are needed; "
                "lower --num_frames (--clip_frames) or --frame_stride, or pass --skip_bad_clips."
            )
        return min(counts) - self.options.held_out_frames


def reverse(sample: VideoSample) -> VideoSample:
    """The clip from its last frame to its first, with its tracks. Flow would run the wrong way: the sample has none."""
    names = ("pixel_values", "tracks", "visible", *CONTROLS)
    turned = {name: sample[name].flip(0) for name in names if name in sample}
    return VideoSample(**{**sample, **turned})


def has_flow(records: Sequence[VideoRecord], options: ClipOptions) -> bool:
    """Whether all records have the flow of just the frames that the options take."""
    made_for = (options.frame_stride, options.fps)
    return options.steady and all(r.flow is not None and (r.flow_stride, r.flow_fps) == made_for for r in records)


def Panda(  # noqa: N802, the laboratory's name
    folder: str | Path, sample_size: int | tuple[int, int], sample_n_frames: int
) -> VideoDataset:
    """Panda-70M as the laboratory's notebooks open it: `sample_size` is a side or (height, width)."""
    height, width = (sample_size, sample_size) if isinstance(sample_size, int) else sample_size
    return VideoDataset(read_video_records(folder), ClipOptions(sample_n_frames, height, width))


def read_tracks(
    path: Path, numbers: Sequence[int], geometry: ClipGeometry, height: int, width: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tracks (F, N, 2) of the cropped frames and visible (F, N); height and width are those of the frames before.

    Raises:
        ValueError: The file holds something else, or fewer frames.
    """
    if not is_file(path):
        raise FileNotFoundError(f"There are no tracks {path}.")
    tracks, visible = read_arrays(path, "tracks", "visible")
    if tracks.ndim != 3 or tracks.shape[2] != 2 or visible.shape != tracks.shape[:2]:
        raise ValueError(
            f"{path} holds tracks {tracks.shape} and visible {visible.shape}; they are (F, N, 2) and (F, N)."
        )
    if numbers[-1] >= len(tracks):
        raise ValueError(f"{path} has {count(len(tracks), 'frame')}; frame {numbers[-1]} is needed.")
    points = geometry.apply_tracks(torch.from_numpy(tracks[list(numbers)]).float(), height, width)
    sides = torch.tensor([geometry.width, geometry.height])
    inside = ((points >= -0.5) & (points <= sides - 0.5)).all(-1)
    return points, torch.from_numpy(visible[list(numbers)]) & inside


def _check_extras(records: Sequence[VideoRecord], options: ClipOptions, extras: Sequence[str]) -> None:
    if options.num_frames < 2 and {"flow", "backward_flow"} & set(extras):
        raise ValueError(f"num_frames={options.num_frames}: flow needs at least 2 frames.")
    if not options.steady and {"flow", "backward_flow"} & set(extras):
        raise ValueError("Annotated flow has one step and runs forwards; leave frame_strides and random_reverse out.")
    for name in extras:
        if name not in EXTRAS:
            raise ValueError(f"There is no extra {name!r}; choose from {', '.join(EXTRAS)}.")
        for record in records:
            if getattr(record, name) is None:
                raise ValueError(f"{record.video} has no {name}; {EXTRAS[name]}.")
            if name in ("flow", "backward_flow"):
                _check_flow(record, options)
    if "tracks" in extras and options.fps is not None:
        raise ValueError(f"Tracks belong to the frames at the clips' own rate; leave fps={options.fps:g} out.")


def _check_flow(record: VideoRecord, options: ClipOptions) -> None:
    if (record.flow_stride, record.flow_fps) != (options.frame_stride, options.fps):
        raise ValueError(
            f"The flow of {record.video} was made with frame_stride={record.flow_stride} and fps={record.flow_fps}, "
            f"not {options.frame_stride} and {options.fps}; annotate it again, or use these."
        )
