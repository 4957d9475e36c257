"""Clips with a few points that are followed through them, for networks that are told where points go.

The points are the exact tracks of a data set that has them. In any other they are places drawn at random and carried along by
its flow, as long as they are seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from utils.data.cache import build_once, cache_key
from utils.data.clip_geometry import ClipGeometry
from utils.data.clip_latents import CachedClips, Stretches, cache_clips, clip_identity, open_array
from utils.data.svd_clips import SVDClips
from utils.data.videos import VideoDataset
from utils.flow.consistency import visible_in_next
from utils.metrics.trajectory import follow_flow
from utils.motion_helper import PROCEDURAL, MotionBuckets

FOLLOWED = 64  # points that are carried along by flow
MOVING_SHARE_OF_SIDE = 1 / 32  # of the shorter side: who comes that far from the start moves


@dataclass(frozen=True)
class PointChoice:
    """Which points of a clip a network is told of.

    Attributes:
        num_points: 1 to so many are drawn, each number equally often.
        num_other_points: 1 to so many more of those that stand still, or of all where nothing does, as when the camera moves.
        other_share: Probability that a sample has such others. Who drags a point says nothing of the rest, as a rule.
        moving_share: A point of the first kind is drawn from those that move with this probability, otherwise, and where these
            do not suffice, from all.
    """

    num_points: int = 3
    num_other_points: int = 16
    moving_share: float = 0.8
    other_share: float = 0.5

    def __post_init__(self):
        if self.num_points < 1 or self.num_other_points < 0:
            raise ValueError(f"num_points={self.num_points} or num_other_points={self.num_other_points} is too few.")
        for name in ("moving_share", "other_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} is not between 0 and 1.")

    def draw(self, tracks: torch.Tensor, visible: torch.Tensor, shorter_side: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Points (F, K, 2), and bool (F, K), where they are shown; K is the largest number, and the rest is shown nowhere.

        Args:
            tracks: (F, N, 2), pixels, x then y.
            visible: bool (F, N). Only points are drawn that are seen in frame 0 and in half of the frames.
            shorter_side: Of the clip in pixels.
        """
        known = visible[0] & (visible.float().mean(dim=0) >= 0.5)
        moves = (tracks - tracks[:1]).norm(dim=-1).amax(dim=0) >= shorter_side * MOVING_SHARE_OF_SIDE
        count = int(torch.randint(1, self.num_points + 1, ()))
        wanted = int((torch.rand(count) < self.moving_share).sum())
        dragged = _shuffle(known & moves)[:wanted]
        dragged = torch.cat([dragged, _shuffle(_without(known, dragged))[: count - len(dragged)]])
        left = _without(known, dragged)
        others = left & ~moves if (left & ~moves).any() else left
        others = _shuffle(others)[: self._count_others()]
        return self._pad(tracks, visible, torch.cat([dragged, others]))

    def _count_others(self) -> int:
        if self.num_other_points == 0 or torch.rand(()) >= self.other_share:
            return 0
        return int(torch.randint(1, self.num_other_points + 1, ()))

    def _pad(self, tracks, visible, chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        F, K = len(tracks), self.num_points + self.num_other_points
        points, shown = torch.zeros(F, K, 2), torch.zeros(F, K, dtype=torch.bool)
        points[:, : len(chosen)], shown[:, : len(chosen)] = tracks[:, chosen], visible[:, chosen]
        return points, shown


class TrackClips(SVDClips):
    """Samples of `SVDClips` that also have `points` (F, K, 2), pixels, and `shown`, bool (F, K).

    Args:
        clips: A `VideoDataset` with tracks or with flow, or `CachedTrackClips`.
        buckets: As of `SVDClips`.
        choice: Of the points.
    """

    def __init__(self, clips: Dataset | Sequence[dict], buckets: MotionBuckets | None, choice: PointChoice):
        super().__init__(clips, buckets, with_flow=True)
        self.choice = choice

    def _extras(self, clip: dict) -> dict[str, torch.Tensor]:
        size = (clip["image"] if "image" in clip else clip["pixel_values"]).shape[-2:]
        points, shown = self.choice.draw(*find_tracks(clip), min(size))
        return {"points": points, "shown": shown}


def find_tracks(clip: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """Tracks (F, N, 2) and visible, bool (F, N): the clip's own, or those of random places that its flow carries along."""
    if "tracks" in clip:
        return clip["tracks"], clip["visible"]
    frames, flow = clip["pixel_values"], clip["flow"]
    H, W = flow.shape[-2:]
    tracks = follow_flow(torch.rand(FOLLOWED, 2) * torch.tensor([W - 1, H - 1]), flow)
    x, y = tracks[:-1].round().long().unbind(-1)
    seen = visible_in_next(frames, flow)[torch.arange(len(flow))[:, None], y.clamp(0, H - 1), x.clamp(0, W - 1)]
    return tracks, torch.cat([torch.ones(1, FOLLOWED, dtype=torch.bool), seen.cumprod(dim=0).bool()])


class CachedTrackClips(CachedClips):
    """Stretches of cached clips with `tracks` (F, N, 2) and `visible` (F, N).

    Args:
        folder: What `cache_clips` has written.
        track_folder: What `cache_tracks` has written of the same clips.
        stretches, buckets: As of `CachedClips`.
    """

    def __init__(self, folder: Path, track_folder: Path, stretches: Stretches, buckets: MotionBuckets | None = None):
        super().__init__(folder, stretches, buckets)
        self.tracks, self.visible = (
            np.load(track_folder / f"{name}.npy", mmap_mode="r") for name in ("tracks", "visible")
        )  # (M, frames, N, 2), (M, frames, N)

    def _sample(self, row: int, stride: int, numbers: list[int]) -> dict:
        followed = {name: torch.from_numpy(getattr(self, name)[row, numbers]) for name in ("tracks", "visible")}
        return {**super()._sample(row, stride, numbers), **followed}


def cache_track_clips(
    dataset: VideoDataset, vae: nn.Module, cache_dir: str | Path, stretches: Stretches, buckets: MotionBuckets | None
) -> CachedTrackClips:
    """Latents and tracks of whole clips, written once; arguments as of `cache_clips`."""
    dataset = dataset.without_bad_clips() if dataset.skip_bad_clips else dataset
    scoring = buckets or PROCEDURAL
    folders = cache_clips(dataset, vae, cache_dir, scoring), cache_tracks(dataset, cache_dir)
    return CachedTrackClips(*folders, stretches, scoring)


def cache_tracks(dataset: VideoDataset, cache_dir: str | Path) -> Path:
    """Read the tracks of whole clips once, cut as their latents are, and return the folder.

    Raises:
        ValueError: Clips have different numbers of tracks.
    """
    options = dataset.options
    settings = [options.num_frames, options.height, options.width, options.frame_stride, options.fps, dataset.extras]
    files = [record.tracks if "tracks" in dataset.extras else record.flow for record in dataset.records]
    clips = [
        [*clip_identity(record), str(file.resolve()), file.stat().st_mtime_ns]
        for record, file in zip(dataset.records, files, strict=True)
    ]
    folder = Path(cache_dir) / f"tracks-{cache_key(clips, settings, options.random_flip)}"
    build_once(folder, lambda temporary: _write(dataset, temporary))
    return folder


def _write(dataset: VideoDataset, folder: Path) -> None:
    arrays: dict[str, np.ndarray] = {}
    count = len(dataset) * (1 + dataset.options.random_flip)
    for index in tqdm(range(count), desc="read tracks"):
        flip, clip = divmod(index, len(dataset))
        geometry = ClipGeometry(dataset.options.height, dataset.options.width, flip=bool(flip))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(clip)
            found = find_tracks(dataset.sample(clip, geometry))
        row = dict(zip(("tracks", "visible"), map(np.asarray, found), strict=True))
        for name, value in row.items():
            if name not in arrays:
                arrays[name] = open_array(folder / f"{name}.npy", count, value)
            if arrays[name].shape[1:] != value.shape:
                raise ValueError(
                    f"{dataset.records[clip].tracks} has {value.shape[1]} points and the clips before it "
                    f"{arrays[name].shape[2]}: leave --cache_latents out."
                )
            arrays[name][index] = value
    for array in arrays.values():
        array.flush()


def _shuffle(chosen: torch.Tensor) -> torch.Tensor:
    """Numbers of the points where bool (N,) is true, in random order."""
    numbers = chosen.nonzero().flatten()
    return numbers[torch.randperm(len(numbers))]


def _without(known: torch.Tensor, taken: torch.Tensor) -> torch.Tensor:
    left = known.clone()
    left[taken] = False
    return left
