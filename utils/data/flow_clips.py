"""Clips with their flow in pictures, for networks that draw flow."""

from collections.abc import Sequence

import torch
from torch.utils.data import Dataset

from utils.data.svd_clips import SVDClips
from utils.data.video_arguments import read_video_dataset
from utils.data.videos import VideoDataset
from utils.flow.code import FlowCode
from utils.joint import LatentScale
from utils.motion_helper import MotionBuckets
from utils.processes import process_state
from utils.seeding import SeededDataset
from utils.svd_training import encode_frames

SCALE_SAMPLES = 64  # clips that the scale of the flow's latents is measured on


class FlowClips(SVDClips):
    """Samples of `SVDClips` that also have `flow_pixel_values` (F, 3, H, W) in [-1, 1].

    Args:
        clips: A `VideoDataset` with flow.
        buckets: As of `SVDClips`.
        code: How flow becomes pictures.
    """

    def __init__(self, clips: Dataset | Sequence[dict], buckets: MotionBuckets | None, code: FlowCode):
        super().__init__(clips, buckets, with_flow=True)
        self.code = code

    def _flow(self, clip: dict) -> dict[str, torch.Tensor]:
        return {"flow_pixel_values": self.code.to_pictures(clip["flow"])}


def read_flow_clips(args) -> VideoDataset:
    """The clips of `add_video_arguments`, with flow.

    Raises:
        ValueError: They have none, or that of other frames; or there are fewer than 2 frames.
    """
    if args.num_frames < 2:
        raise ValueError(f"--num_frames {args.num_frames}: motion needs 2 frames.")
    return read_video_dataset(args, ("flow",))


@torch.no_grad()
def measure_flow_scale(dataset: FlowClips, vae, seed: int) -> LatentScale:
    """Mean and deviation of the flow's latents over the first samples; the same for a run that resumes."""
    vae.to(process_state().device)
    seeded = SeededDataset(dataset, seed)
    pictures = (seeded[0, index]["flow_pixel_values"][None] for index in range(min(SCALE_SAMPLES, len(dataset))))
    return LatentScale.measure(torch.cat([encode_frames(p.to(vae.device), vae) for p in pictures]))
