"""Clips encoded once and kept on disk, of which a training draws stretches: start, step and direction are new each time.

A clip keeps the posterior's mean and deviation of every frame, its frames as bytes (the condition of Stable Video
Diffusion begins with a picture, to which noise is added), its rate and its motion score. The cut is the middle, since
a random one has no latents to keep.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from utils.data.cache import build_once, cache_key, draw_posterior, posterior_moments, weights_digest
from utils.data.clip_geometry import ClipGeometry
from utils.data.video_records import VideoRecord
from utils.data.videos import VideoDataset
from utils.diffusion.edm import ENCODED_TOGETHER
from utils.flow import flow_estimator
from utils.motion_helper import PROCEDURAL, MotionBuckets, motion_scores
from utils.processes import process_state
from utils.video import to_pixels


@dataclass(frozen=True)
class Stretches:
    """What is drawn from a clip.

    Attributes:
        num_frames: F.
        frame_strides: One of these is drawn: every how many frames of the clip.
        random_reverse: Half of the stretches run backwards, which is as true where everything moves steadily.
    """

    num_frames: int
    frame_strides: Sequence[int] = (1,)
    random_reverse: bool = False


class CachedClips(Dataset):
    """Stretches of cached clips.

    A sample has `latents` (F, C, h, w), float32, a draw of the posterior, not yet scaled; `image` (3, H, W) in
    [-1, 1], the first frame; `fps` of the stretch; `motion_bucket_id` of the whole clip.

    Args:
        folder: What `cache_clips` has written.
        stretches: What is drawn.
        buckets: Map of motion scores; fitted to these clips by default.
        with_pixels: Samples also have `pixel_values` (F, 3, H, W).

    Raises:
        ValueError: The clips are too short.
    """

    def __init__(
        self, folder: Path, stretches: Stretches, buckets: MotionBuckets | None = None, with_pixels: bool = False
    ):
        # (M, frames, mean and std, C, h, w), (M, frames, H, W, 3), (M,), (M,); M is N, or 2 N with the mirrored clips behind
        self.latents, self.frames, self.fps, self.scores = (
            np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("latents", "frames", "fps", "scores")
        )
        self.stretches = stretches
        self.with_pixels = with_pixels
        self.flips = json.loads((folder / "about.json").read_text())["flips"]
        self.buckets = buckets or MotionBuckets.fit(torch.from_numpy(np.array(self.scores)))
        needed = (stretches.num_frames - 1) * max(stretches.frame_strides) + 1
        if self.latents.shape[1] < needed:
            raise ValueError(
                f"The clips have {self.latents.shape[1]} frames and {needed} are needed; "
                "lower num_frames or frame_strides."
            )

    def __len__(self) -> int:
        return len(self.latents) // self.flips

    def __getitem__(self, index: int) -> dict:
        stride, numbers = self._draw_frames()
        row = index if self.flips == 1 else index + len(self) * int(torch.randint(self.flips, ()))
        return self._sample(row, stride, numbers)

    def _sample(self, row: int, stride: int, numbers: list[int]) -> dict:
        sample = {
            "latents": torch.stack([draw_posterior(self.latents[row, number]) for number in numbers]),
            "image": to_pixels(self.frames[row, numbers[:1]])[0],
            "fps": torch.tensor(self.fps[row] / stride),
            "motion_bucket_id": self.buckets.ids(torch.tensor(self.scores[row])),
        }
        return {**sample, "pixel_values": to_pixels(self.frames[row, numbers])} if self.with_pixels else sample

    def _draw_frames(self) -> tuple[int, list[int]]:
        strides, count = self.stretches.frame_strides, self.stretches.num_frames
        stride = strides[int(torch.randint(len(strides), ()))]
        span = (count - 1) * stride + 1
        start = int(torch.randint(self.latents.shape[1] - span + 1, ()))
        numbers = list(range(start, start + span, stride))
        backwards = self.stretches.random_reverse and bool(torch.rand(()) < 0.5)
        return stride, numbers[::-1] if backwards else numbers


def cache_clips(
    dataset: VideoDataset, vae: nn.Module, cache_dir: str | Path, buckets: MotionBuckets = PROCEDURAL
) -> Path:
    """Encode whole clips once and return the folder.

    Args:
        dataset: Its `num_frames` first frames of each clip are kept, cut in the middle; mirrored as well where it
            flips.
        vae: Encodes pictures; moved to the training device.
        cache_dir: Folder of all caches.
        buckets: Its settings are those of the motion scores.
    """
    if dataset.skip_bad_clips:
        dataset = dataset.without_bad_clips()
    options = dataset.options
    settings = [options.num_frames, options.height, options.width, options.frame_stride, options.fps]
    scoring = [buckets.short_side, buckets.time_step, buckets.backend]
    clips = [clip_identity(record) for record in dataset.records]
    key = cache_key(clips, settings, options.random_flip, scoring, weights_digest(vae))
    folder = Path(cache_dir) / f"clips-{key}"
    build_once(folder, lambda temporary: _write(dataset, vae, temporary, buckets))
    return folder


def clip_identity(record: VideoRecord) -> list:
    """What tells one state of a clip from another without reading it."""
    file = record.video if isinstance(record.video, Path) else record.video.archive
    return [record.key, str(file.resolve()), file.stat().st_mtime_ns, record.fps]


@torch.no_grad()
def _write(dataset: VideoDataset, vae: nn.Module, folder: Path, buckets: MotionBuckets) -> None:
    vae.to(process_state().device)
    estimate = flow_estimator(buckets.backend)
    flips = 1 + dataset.options.random_flip
    (folder / "about.json").write_text(json.dumps({"flips": flips}))
    arrays: dict[str, np.ndarray] = {}
    for index in tqdm(range(len(dataset) * flips), desc="encode clips"):
        flip, clip = divmod(index, len(dataset))
        sample = dataset.sample(clip, ClipGeometry(dataset.options.height, dataset.options.width, flip=bool(flip)))
        pixels, fps = sample["pixel_values"], sample["fps"]
        row = {
            "latents": np.concatenate([posterior_moments(vae, part) for part in pixels.split(ENCODED_TOGETHER)]),
            "frames": pixels.add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).numpy(),
            "fps": np.float32(fps),
            "scores": motion_scores(estimate, pixels[None], fps, buckets.short_side, buckets.time_step)[0].numpy(),
        }
        for name, value in row.items():
            if name not in arrays:
                arrays[name] = open_array(folder / f"{name}.npy", len(dataset) * flips, value)
            arrays[name][index] = value
    for array in arrays.values():
        array.flush()


def open_array(path: Path, count: int, value: np.ndarray) -> np.ndarray:
    """A file of `count` values like this one, to be filled; moments of latents in half precision."""
    kind = np.float16 if value.ndim == 5 else value.dtype
    return np.lib.format.open_memmap(path, "w+", kind, (count, *value.shape))
