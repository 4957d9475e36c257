"""Clips encoded once and kept on disk. A training takes stretches of them: start, stride and direction are random.

A clip keeps the mode of the posterior of every frame (draws have noise that differs by frame, which a network learns as
flicker of what stands still), its frames as bytes (the condition of Stable Video Diffusion begins with an image, to
which noise is added), its frame rate and its motion score. What a variant adds (`utils.data.extras`) lies in a folder
of its own, so that the latents are not encoded again with it. The crop is the centre, since a random one has no latents
to keep.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from utils.data.cache import build_once, cache_key, file_state, weights_digest
from utils.data.clip_geometry import ClipGeometry
from utils.data.extras import Extra
from utils.data.video_records import VideoRecord
from utils.data.videos import VideoDataset, VideoSample
from utils.flow import flow_estimator
from utils.formats.folders import list_files
from utils.latents import encode_mode
from utils.messages.notices import notice
from utils.messages.words import count
from utils.motion_helper import PROCEDURAL, MotionBuckets, motion_scores
from utils.processes import process_state
from utils.video import to_pixels


@dataclass(frozen=True)
class Stretches:
    """Which frames of a cached clip make a sample.

    Attributes:
        num_frames: F.
        frame_strides: A stretch takes every n-th frame of the clip; n is drawn from these.
        random_reverse: Half of the stretches run backwards, which is as true where everything moves steadily.
    """

    num_frames: int
    frame_strides: Sequence[int] = (1,)
    random_reverse: bool = False

    @property
    def span(self) -> int:
        """Frames from the first to the last at the largest stride."""
        return (self.num_frames - 1) * max(self.frame_strides) + 1

    @property
    def steady(self) -> bool:
        """Whether all stretches take every frame and run forwards."""
        return tuple(self.frame_strides) == (1,) and not self.random_reverse


class CachedClips(Dataset):
    """Stretches of cached clips.

    A sample has `latents` (F, C, h, w), float32, the mode of the posterior, not yet scaled; `image` (3, H, W) in
    [-1, 1], the first frame; `fps` of the stretch; `motion_bucket_id` of the whole clip; what the extras kept of it;
    and its `caption`, where there are records, which is read anew, so that a cache does not keep an old one.

    Args:
        folder: What `cache_clips` has written.
        stretches: Which frames make a sample.
        buckets: Map of motion scores; fitted to these clips by default.
        with_pixels: Samples also have `pixel_values` (F, 3, H, W).
        extras: With the folder that `cache_extra` has written for each of them.
        records: Of the clips, in their order.

    Raises:
        ValueError: The clips are too short.
    """

    def __init__(
        self,
        folder: Path,
        stretches: Stretches,
        buckets: MotionBuckets | None = None,
        with_pixels: bool = False,
        extras: Sequence[tuple[Extra, Path]] = (),
        records: Sequence[VideoRecord] = (),
    ):
        # (M, frames, C, h, w), (M, frames, H, W, 3), (M,), (M,); M is N, or 2 N with mirrored clips
        self.latents, self.frames, self.fps, self.scores = (
            np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("latents", "frames", "fps", "scores")
        )
        self.kept = [(extra, _open(where)) for extra, where in extras]
        self.stretches, self.records = stretches, records
        self.with_pixels = with_pixels
        self.flips = _about(folder)["flips"]
        left_out = {row for where in (folder, *(where for _, where in extras)) for row in _about(where).get("bad", [])}
        self.rows = [row for row in range(len(self.latents) // self.flips) if row not in left_out]
        self.buckets = buckets or MotionBuckets.fit(torch.from_numpy(np.array(self.scores))[self._all_rows()])
        if self.num_frames < stretches.span:
            raise ValueError(
                f"The clips have {count(self.num_frames, 'frame')} and {stretches.span} are needed; "
                "lower --num_frames or --frame_strides."
            )

    @property
    def num_frames(self) -> int:
        """Of a whole clip."""
        return self.latents.shape[1]

    def __len__(self) -> int:
        return len(self.rows)

    def _all_rows(self) -> list[int]:
        """Of the clips, then of their mirror images."""
        clips = len(self.latents) // self.flips
        return [flip * clips + row for flip in range(self.flips) for row in self.rows]

    def __getitem__(self, index: int) -> dict:
        stride, numbers = self._draw_frames()
        clip = self.rows[index]
        mirrored = 0 if self.flips == 1 else int(torch.randint(self.flips, ()))
        row = clip + mirrored * (len(self.latents) // self.flips)
        taken = {}
        for extra, arrays in self.kept:
            whole = {name: array[row] for name, array in arrays.items()}
            taken |= extra.take(whole, numbers, self.num_frames)
        captions = {"caption": self.records[clip].read_caption()} if self.records else {}
        return {**self._sample(row, stride, numbers), **taken, **captions}

    def _sample(self, row: int, stride: int, numbers: list[int]) -> dict:
        sample = {
            "latents": torch.from_numpy(self.latents[row, numbers].astype(np.float32)),
            "image": to_pixels(self.frames[row, numbers[:1]])[0],
            "fps": torch.tensor(self.fps[row] / stride),
            "motion_bucket_id": self.buckets.ids(torch.tensor(self.scores[row])),
        }
        return {**sample, "pixel_values": to_pixels(self.frames[row, numbers])} if self.with_pixels else sample

    def _draw_frames(self) -> tuple[int, list[int]]:
        strides, count = self.stretches.frame_strides, self.stretches.num_frames
        stride = strides[int(torch.randint(len(strides), ()))]
        span = (count - 1) * stride + 1
        start = int(torch.randint(self.num_frames - span + 1, ()))
        numbers = list(range(start, start + span, stride))
        backwards = self.stretches.random_reverse and bool(torch.rand(()) < 0.5)
        return stride, numbers[::-1] if backwards else numbers


def read_cached_clips(
    dataset: VideoDataset,
    vae: nn.Module,
    cache_dir: str | Path,
    stretches: Stretches,
    buckets: MotionBuckets | None = None,
    extras: Sequence[Extra] = (),
) -> CachedClips:
    """Cached clips with all that the extras need of them; what is not in the cache is written first.

    Args:
        dataset, vae, cache_dir: As of `cache_clips`; the data set reads the annotations of the extras.
        stretches: Which frames make a sample.
        buckets: Map of motion scores; by default that of the procedural world.
        extras: Each gets a folder beside that of the clips.

    Raises:
        ValueError: Annotated flow and stretches that skip frames or run backwards.
    """
    if not stretches.steady and any(extra.steady for extra in extras):
        raise ValueError("Annotated flow has one step and runs forwards; leave frame_strides and random_reverse out.")
    dataset = dataset.without_bad_clips() if dataset.skip_bad_clips else dataset
    buckets = buckets or PROCEDURAL
    folder = cache_clips(dataset, vae, cache_dir, buckets)
    folders = [(extra, cache_extra(extra, dataset, vae, cache_dir)) for extra in extras if extra.cached]
    return CachedClips(folder, stretches, buckets, any(extra.frames for extra in extras), folders, dataset.records)


@torch.no_grad()
def cache_clips(
    dataset: VideoDataset, vae: nn.Module, cache_dir: str | Path, buckets: MotionBuckets = PROCEDURAL
) -> Path:
    """Encode whole clips once and return the folder.

    Args:
        dataset: Its `num_frames` first frames of each clip are kept, cropped at the centre; mirrored as well where it
            flips.
        vae: Encodes frames; moved to the training device.
        cache_dir: Folder of all caches.
        buckets: Its settings are those of the motion scores.
    """
    dataset = dataset.without_bad_clips() if dataset.skip_bad_clips else dataset
    scoring = [buckets.short_side, buckets.time_step, buckets.backend]
    estimate = flow_estimator(buckets.backend)

    def row(sample: VideoSample) -> dict[str, np.ndarray]:
        pixels, fps = sample["pixel_values"], sample["fps"]
        return {
            "latents": clip_modes(vae, pixels),
            "frames": pixels.add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).numpy(),
            "fps": np.float32(fps),
            "scores": motion_scores(estimate, pixels[None], fps, buckets.short_side, buckets.time_step)[0].numpy(),
        }

    return _cache("clips", dataset, vae, cache_dir, scoring, row)


@torch.no_grad()
def cache_extra(extra: Extra, dataset: VideoDataset, vae: nn.Module, cache_dir: str | Path) -> Path:
    """Keep what an extra needs of whole clips once and return the folder; arguments as of `cache_clips`."""
    settings = [extra.reads, extra.settings()]
    return _cache(extra.name, dataset, vae, cache_dir, settings, lambda sample: extra.keep(sample, vae))


def clip_modes(vae: nn.Module, images: torch.Tensor) -> np.ndarray:
    """Mode (F, C, h, w), float16, of the posterior of images (F, 3, H, W) in [-1, 1]."""
    return encode_mode(vae, images.to(vae.device)).half().cpu().numpy()


def clip_identity(record: VideoRecord, annotations: Sequence[str] = ()) -> list:
    """What tells one state of a clip and its annotations from another without reading them."""
    inside = [] if isinstance(record.video, Path) else [record.video.offset, record.video.size]
    files = [record.files[0], *(getattr(record, name) for name in annotations)]
    return [record.key, record.fps, *inside, [file_state(path) for path in files]]


def _cache(name: str, dataset: VideoDataset, vae, cache_dir: str | Path, settings: list, row: Callable) -> Path:
    options = dataset.options
    clips = [clip_identity(record, dataset.extras if name != "clips" else ()) for record in dataset.records]
    frames = [options.num_frames, options.height, options.width, options.frame_stride, options.fps]
    key = cache_key("mode", clips, frames, options.random_flip, settings, weights_digest(vae))
    folder = Path(cache_dir) / f"{name}-{key}"
    build_once(folder, lambda temporary: _write(dataset, vae, temporary, name, row))
    if bad := _about(folder).get("bad"):
        lacks = f"{folder} was written with --skip_bad_clips and lacks {count(len(bad), 'clip')}"
        if not dataset.skip_bad_clips:
            raise ValueError(f"{lacks}; pass that flag again.")
        notice(f"{lacks}; delete it to try them once more.")
    return folder


def _write(dataset: VideoDataset, vae: nn.Module, folder: Path, name: str, row: Callable) -> None:
    """The one writer of caches of clips: a row of each array for each clip, then for their mirror images.

    With `skip_bad_clips` the row of a clip that cannot be read holds nothing, and about.json lists it.
    """
    vae.to(process_state().device)
    flips = 1 + dataset.options.random_flip
    arrays: dict[str, np.ndarray] = {}
    rows = len(dataset) * flips
    for index in tqdm(range(rows), desc=f"cache {name}"):
        flip, clip = divmod(index, len(dataset))
        if dataset.bad[clip]:
            continue
        geometry = ClipGeometry(dataset.options.height, dataset.options.width, flip=bool(flip))
        try:
            sample = dataset.sample(clip, geometry)
        except (ValueError, FileNotFoundError) as error:
            if not dataset.skip_bad_clips:
                raise
            dataset.skip(clip, error)
            continue
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(clip)
            values = row(sample)
        for key, value in values.items():
            if key not in arrays:
                path = folder / f"{key}.npy"
                arrays[key] = np.lib.format.open_memmap(path, "w+", value.dtype, (rows, *value.shape))
            if arrays[key].shape[1:] != value.shape:
                raise ValueError(
                    f"{dataset.records[clip].key} has {key} of {value.shape} and the clips before it of "
                    f"{arrays[key].shape[1:]}; leave --cache_latents out."
                )
            arrays[key][index] = value
    if not arrays:
        raise ValueError(f"No clip of {len(dataset)} is good; without --skip_bad_clips the first one says why.")
    for array in arrays.values():
        array.flush()
    bad = dataset.bad.nonzero().flatten().tolist()
    (folder / "about.json").write_text(json.dumps({"flips": flips, **({"bad": bad} if bad else {})}))


def _about(folder: Path) -> dict:
    return json.loads((folder / "about.json").read_text())


def _open(folder: Path) -> dict[str, np.ndarray]:
    return {path.stem: np.load(path, mmap_mode="r") for path in list_files(folder, {".npy"})}
