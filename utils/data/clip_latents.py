"""Clips encoded once and kept on disk, from which a training draws stretches: start, step and direction of time are new at each access.

A clip keeps the posterior's mean and deviation of every frame, its frames as bytes (the condition of Stable Video Diffusion begins with a picture,
to which noise is added), its rate and its motion score.
"""

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
from utils.data.videos import VideoDataset
from utils.flow import flow_estimator
from utils.motion_helper import MotionBuckets, motion_scores
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

    A sample has `latents` (F, C, h, w), float32, a draw of the posterior, not yet scaled; `image` (3, H, W) in [-1, 1], the first
    frame; `fps` of the stretch; `motion_bucket_id`.

    Args:
        folder: What `cache_clips` has written.
        stretches: What is drawn.
        buckets: Map of motion scores; fitted to these clips by default.

    Raises:
        ValueError: The clips are too short.
    """

    def __init__(self, folder: Path, stretches: Stretches, buckets: MotionBuckets | None = None):
        # (N, frames, mean and std, C, h, w), (N, frames, H, W, 3), (N,), (N,)
        self.latents, self.frames, self.fps, self.scores = (
            np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("latents", "frames", "fps", "scores")
        )
        self.stretches = stretches
        self.buckets = buckets or MotionBuckets.fit(torch.from_numpy(np.array(self.scores)))
        needed = (stretches.num_frames - 1) * max(stretches.frame_strides) + 1
        if self.latents.shape[1] < needed:
            raise ValueError(
                f"The clips have {self.latents.shape[1]} frames and {needed} are needed; lower num_frames or frame_strides."
            )

    def __len__(self) -> int:
        return len(self.latents)

    def __getitem__(self, index: int) -> dict:
        stride, numbers = self._draw_frames()
        return {
            "latents": torch.stack([draw_posterior(self.latents[index, number]) for number in numbers]),
            "image": to_pixels(self.frames[index, numbers[:1]])[0],
            "fps": torch.tensor(self.fps[index] / stride),
            "motion_bucket_id": self.buckets.ids(torch.tensor(self.scores[index])),
        }

    def _draw_frames(self) -> tuple[int, list[int]]:
        strides, count = self.stretches.frame_strides, self.stretches.num_frames
        stride = strides[int(torch.randint(len(strides), ()))]
        span = (count - 1) * stride + 1
        start = int(torch.randint(self.latents.shape[1] - span + 1, ()))
        numbers = list(range(start, start + span, stride))
        backwards = self.stretches.random_reverse and bool(torch.rand(()) < 0.5)
        return stride, numbers[::-1] if backwards else numbers


def cache_clips(dataset: VideoDataset, vae: nn.Module, cache_dir: str | Path) -> Path:
    """Encode whole clips once and return the folder.

    Args:
        dataset: Its `num_frames` first frames of each clip are kept, cut in the middle.
        vae: Encodes pictures; moved to the training device.
        cache_dir: Folder of all caches.
    """
    clips = [[str(record.video.resolve()), record.fps] for record in dataset.records]
    options = dataset.options
    folder = Path(cache_dir) / f"clips-{cache_key(clips, [options.num_frames, options.height, options.width, options.frame_stride, options.fps], weights_digest(vae))}"  # fmt: skip
    build_once(folder, lambda temporary: _write(dataset, vae, temporary))
    return folder


@torch.no_grad()
def _write(dataset: VideoDataset, vae: nn.Module, folder: Path) -> None:
    vae.to(process_state().device)
    estimate = flow_estimator("dis")
    geometry = ClipGeometry(dataset.options.height, dataset.options.width)
    arrays: dict[str, np.ndarray] = {}
    for index in tqdm(range(len(dataset)), desc="encode clips"):
        sample = dataset.sample(index, geometry)
        pixels = sample["pixel_values"]
        row = {
            "latents": posterior_moments(vae, pixels),
            "frames": pixels.add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).numpy(),
            "fps": np.float32(sample["fps"]),
            "scores": motion_scores(estimate, pixels[None], sample["fps"])[0].numpy(),
        }
        for name, value in row.items():
            if name not in arrays:
                arrays[name] = _open(folder / f"{name}.npy", len(dataset), value)
            arrays[name][index] = value
    for array in arrays.values():
        array.flush()


def _open(path: Path, count: int, value: np.ndarray) -> np.ndarray:
    kind = np.float16 if value.ndim == 5 else value.dtype
    return np.lib.format.open_memmap(path, "w+", kind, (count, *value.shape))
