"""True clips of an evaluation, rendered once and kept in a cache folder, a few at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from utils.files import replacing
from utils.scenes import Scene, render, sample_clip, sample_scene
from utils.video import to_pixels

PLANNED_FRAMES = 16  # clips begin as those of 16 frames that the models have learned from
AT_ONCE = 10  # clips of a file


@dataclass(frozen=True)
class TrueClips:
    """The clips of seeds `first_seed` and up.

    Attributes:
        cache_dir: Folder of all caches.
        first_seed: Of clip 0.
        num_frames: Frames that are taken from the beginning of each clip.
        resolution: Side in pixels.
        camera: The same move in all clips ("still", "pan", "truck", "dolly"); random by default.
    """

    cache_dir: str
    first_seed: int
    num_frames: int = 8
    resolution: int = 64
    camera: str | None = None

    @property
    def folder(self) -> Path:
        name = f"clips-{self.camera or 'any'}-{self.first_seed}-{self.num_frames}x{self.resolution}"
        return Path(self.cache_dir) / name

    def videos(self, indices: Sequence[int]) -> torch.Tensor:
        """Pixels (B, F, 3, H, W) in [-1, 1]."""
        return torch.stack([to_pixels(self._clip(i)[0]) for i in indices])

    def objects(self, indices: Sequence[int]) -> list[torch.Tensor]:
        """Pixels of objects in the first frame of each clip, bool (H, W)."""
        return [torch.from_numpy(self.labels(i) >= 0) for i in indices]

    def labels(self, index: int) -> np.ndarray:
        """Of the pixels of the first frame of a clip: the number of the object, below 0 where there is none, (H, W)."""
        return self._clip(index)[1]

    def scene(self, index: int) -> Scene:
        """The scene of the first frame of a clip."""
        return sample_scene(self.first_seed + index)

    def _clip(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        videos, labels = self._file(index // AT_ONCE)
        return videos[index % AT_ONCE], labels[index % AT_ONCE]

    @lru_cache(maxsize=4)  # noqa: B019, an evaluation lives as long as the process
    def _file(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        path = self.folder / f"{number * AT_ONCE:06d}.npz"
        if not path.is_file():
            self._render(number, path)
        with np.load(path) as arrays:
            return arrays["videos"], arrays["labels"]

    def _render(self, number: int, path: Path) -> None:
        first = self.first_seed + number * AT_ONCE
        seeds = tqdm(range(first, first + AT_ONCE), desc="render", leave=False)
        clips = [render_frames(seed, self.num_frames, self.resolution, self.camera) for seed in seeds]
        with replacing(path) as temporary:
            videos, labels = (np.stack(arrays) for arrays in zip(*clips, strict=True))
            np.savez_compressed(temporary, videos=videos, labels=labels)


def render_frames(seed: int, num_frames: int, resolution: int, camera: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Frames uint8 (F, H, W, 3) and the labels int8 (H, W) of the first."""
    clip = sample_clip(seed, max(num_frames, PLANNED_FRAMES), camera=camera)
    frames = [render(scene, resolution) for scene in map(clip.at, range(num_frames))]
    return np.stack([frame.image for frame in frames]), frames[0].labels
