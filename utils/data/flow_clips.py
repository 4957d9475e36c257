"""Clips with their flow in pictures, for networks that draw flow."""

from collections.abc import Sequence

import torch
from torch.utils.data import Dataset

from utils.data.svd_clips import SVDClips
from utils.data.video_arguments import read_video_dataset
from utils.data.videos import VideoDataset, has_flow
from utils.flow.code import FlowCode
from utils.motion_helper import MotionBuckets


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
        ValueError: They have none, or not that of just these frames; or there are fewer than 2 frames.
    """
    if args.num_frames < 2:
        raise ValueError(f"--num_frames {args.num_frames}: motion needs 2 frames.")
    clips = read_video_dataset(args, ("flow",))
    if not has_flow(clips.records, clips.options):
        raise ValueError(
            f"The clips in {args.train_data_dir} have no flow for --frame_stride {args.frame_stride} and --fps {args.fps}: "
            "make it with python -m utils.data.annotate_flow and pass --flow_dir."
        )
    return clips
