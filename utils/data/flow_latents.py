"""Latents of flow pictures, encoded once beside those of the clips (`utils.data.clip_latents`).

Flow pictures are encoded frame by frame, so that a stretch of a whole clip's latents is what the stretch itself would give, but
for its last frame: it repeats the flow before, whose latents it takes.
"""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from utils.data.cache import build_once, cache_key, draw_posterior, posterior_moments, weights_digest
from utils.data.clip_geometry import ClipGeometry
from utils.data.clip_latents import ENCODED_TOGETHER, CachedClips, Stretches, clip_identity, open_array
from utils.data.videos import VideoDataset
from utils.flow.pictures import FlowPicture
from utils.motion_helper import MotionBuckets
from utils.processes import process_state


class CachedFlowClips(CachedClips):
    """Stretches of cached clips with `flow_latents` (F, C, h, w): float32, a draw of the posterior, not yet scaled.

    Stretches run forwards and take every frame of the cache, as the flow is between those.

    Args:
        folder: What `cache_clips` has written.
        flow_folder: What `cache_flow` has written of the same clips.
        num_frames: F.
        buckets: As of `CachedClips`.
    """

    def __init__(self, folder: Path, flow_folder: Path, num_frames: int, buckets: MotionBuckets | None = None):
        super().__init__(folder, Stretches(num_frames), buckets)
        self.flow_latents = np.load(flow_folder / "flow.npy", mmap_mode="r")  # (M, frames - 1, mean and std, C, h, w)

    def _sample(self, row: int, stride: int, numbers: list[int]) -> dict:
        flows = [*numbers[:-1], numbers[-2]]
        latents = torch.stack([draw_posterior(self.flow_latents[row, number]) for number in flows])
        return {**super()._sample(row, stride, numbers), "flow_latents": latents}


def cache_flow(dataset: VideoDataset, vae: nn.Module, cache_dir: str | Path, picture: FlowPicture) -> Path:
    """Encode the flow of whole clips once and return the folder.

    Args:
        dataset: With flow, none of its clips bad; as for `cache_clips`.
        vae: Encodes pictures; moved to the training device.
        cache_dir: Folder of all caches.
        picture: How flow becomes pictures.
    """
    options = dataset.options
    settings = [options.num_frames, options.height, options.width, options.frame_stride, options.fps]
    clips = [[*clip_identity(record), record.flow.stat().st_mtime_ns] for record in dataset.records]
    key = cache_key(clips, settings, options.random_flip, asdict(picture), weights_digest(vae))
    folder = Path(cache_dir) / f"flow-{key}"
    build_once(folder, lambda temporary: _write(dataset, vae, temporary, picture))
    return folder


@torch.no_grad()
def _write(dataset: VideoDataset, vae: nn.Module, folder: Path, picture: FlowPicture) -> None:
    vae.to(process_state().device)
    array = None
    count = len(dataset) * (1 + dataset.options.random_flip)
    for index in tqdm(range(count), desc="encode flow"):
        flip, clip = divmod(index, len(dataset))
        geometry = ClipGeometry(dataset.options.height, dataset.options.width, flip=bool(flip))
        pictures = picture.encode(dataset.sample(clip, geometry)["flow"])
        moments = np.concatenate([posterior_moments(vae, part) for part in pictures.split(ENCODED_TOGETHER)])
        if array is None:
            array = open_array(folder / "flow.npy", count, moments)
        array[index] = moments
    array.flush()
