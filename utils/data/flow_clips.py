"""Clips with their flow in pictures, for networks that draw flow."""

import argparse
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch.utils.data import Dataset, Subset
from tqdm.auto import tqdm

from utils.arguments import positive_int
from utils.data.cache import add_cache_arguments
from utils.data.clip_latents import cache_clips
from utils.data.flow_latents import CachedFlowClips, cache_flow
from utils.data.svd_clips import SVDClips
from utils.data.video_arguments import add_video_arguments, read_video_dataset
from utils.data.videos import VideoDataset
from utils.diffusion.pairs import LatentScale
from utils.flow.code import FlowCode
from utils.motion_helper import PROCEDURAL, MotionBuckets
from utils.processes import process_state
from utils.training.seeding import SeededDataset
from utils.training.svd import encode_flow

SCALE_SAMPLES = 64  # clips that the scale of the flow's latents is measured on


class FlowClips(SVDClips):
    """Samples of `SVDClips` that also have `flow_pixel_values` (F, 3, H, W) in [-1, 1], or `flow_latents` where these are cached.

    Args:
        clips: A `VideoDataset` with flow, or `CachedFlowClips`.
        buckets: As of `SVDClips`.
        code: How flow becomes pictures.
    """

    def __init__(self, clips: Dataset | Sequence[dict], buckets: MotionBuckets | None, code: FlowCode):
        super().__init__(clips, buckets, with_flow=True)
        self.code = code

    def _extras(self, clip: dict) -> dict[str, torch.Tensor]:
        if "flow_latents" in clip:
            return {"flow_latents": clip["flow_latents"]}
        return {"flow_pixel_values": self.code.to_pictures(clip["flow"])}


def add_flow_clip_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of clips with flow: how they are read, cached and held out."""
    add_video_arguments(parser, num_frames=8, height=64, width=64)
    add_cache_arguments(parser)
    add = parser.add_argument_group("stretches and validation").add_argument
    add("--clip_frames", type=positive_int, help="frames of each clip that --cache_latents keeps; default: one stretch")
    add("--held_out_clips", type=positive_int, help="validate on so many of the last clips, and do not train on them")
    add("--num_inference_steps", type=positive_int, default=25, help="of the validation pictures")


def check_flow_clip_arguments(args) -> None:
    """Raises ValueError for flags that contradict each other."""
    if args.num_frames < 2:
        raise ValueError(f"--num_frames {args.num_frames}: motion needs 2 frames.")
    if args.clip_frames and not args.cache_latents:
        raise ValueError("--clip_frames is of --cache_latents; without it stretches come from all frames.")
    if args.clip_frames and args.clip_frames < args.num_frames:
        raise ValueError(f"--clip_frames {args.clip_frames} has no room for a stretch of {args.num_frames}.")
    if args.clip_frames and args.first_frames and args.clip_frames > args.num_frames:
        raise ValueError(
            f"--first_frames takes frames 0 to {args.num_frames - 1} alone; leave --clip_frames {args.clip_frames} out."
        )
    if args.validation_steps and not args.held_out_clips:
        raise ValueError(f"--validation_steps {args.validation_steps} needs --held_out_clips to validate on.")


def read_flow_clips(args) -> VideoDataset:
    """The clips of `add_flow_clip_arguments`, with flow: stretches, or whole clips to be cached.

    Raises:
        ValueError: They have no flow, or that of other frames; or none is left to train on.
    """
    changes = {"num_frames": args.clip_frames or args.num_frames, "first_frames": True} if args.cache_latents else {}
    clips = read_video_dataset(argparse.Namespace(**{**vars(args), **changes}), ("flow",))
    if args.skip_bad_clips and (args.cache_latents or args.held_out_clips):
        clips = clips.without_bad_clips()
    if (args.held_out_clips or 0) >= len(clips):
        raise ValueError(f"--held_out_clips {args.held_out_clips} leaves none of the {len(clips)} clips to train on.")
    return clips


def make_flow_dataset(clips: VideoDataset, vae, buckets: MotionBuckets | None, code: FlowCode, args) -> Dataset:
    """What is trained on: all clips but those held out, cached with `--cache_latents`."""
    if args.cache_latents:
        scoring = buckets or PROCEDURAL
        folders = (
            cache_clips(clips, vae, args.cache_dir, scoring),
            cache_flow(clips, vae, args.cache_dir, code.picture),
        )
        clips = CachedFlowClips(*folders, args.num_frames, scoring)
    return Subset(FlowClips(clips, buckets, code), range(len(clips) - (args.held_out_clips or 0)))


def read_held_out(clips: VideoDataset, buckets: MotionBuckets | None, code: FlowCode, args) -> list[dict]:
    """Samples of `FlowClips` with pictures: the first stretches of the clips that are held out."""
    if not args.held_out_clips:
        return []
    changes = {"num_frames": args.num_frames, "center_crop": True, "first_frames": True, "random_flip": False}
    options = replace(clips.options, **changes)
    samples = FlowClips(VideoDataset(clips.records[-args.held_out_clips :], options, ("flow",)), buckets, code)
    return [samples[index] for index in range(len(samples))]


@torch.no_grad()
def measure_flow_scale(dataset: Dataset, vae, seed: int) -> LatentScale:
    """Mean and deviation of each channel of the flow's latents over the first samples; the same for a run that resumes."""
    vae.to(process_state().device)
    seeded = SeededDataset(dataset, seed)
    measured = tqdm(range(min(SCALE_SAMPLES, len(dataset))), desc="scale of the flow")
    samples = (seeded[0, index] for index in measured)
    flows = ({k: v[None].to(vae.device) for k, v in s.items() if k.startswith("flow")} for s in samples)
    return LatentScale.measure_channels(torch.cat([encode_flow(flow, vae) for flow in flows]))
