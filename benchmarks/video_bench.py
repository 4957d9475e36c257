"""Shared by evaluations of Stable Video Diffusion: models that load when a task first needs them, and checks before.

The i-th clip and the noise of its sample depend on i alone, not on the batch.
"""

import argparse
import json
from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import patch
from benchmarks.judged import JudgedBench
from benchmarks.protocol import SHOWN, add_clip_arguments, add_run_arguments, check_file
from benchmarks.svd_clips import TrueClips
from pipelines.flow_adapter import FlowAdapter
from pipelines.pipeline_stable_video_diffusion import StableVideoDiffusionEDMPipeline
from utils.diffusion.sampling import VideoSampling, add_sampling_arguments
from utils.flow import flow_estimator
from utils.flow.code import FlowCode
from utils.latents import side_multiple
from utils.motion_helper import MotionBuckets, buckets_file, motion_scores
from utils.pretrained import load_pipeline, shipped
from utils.scenes import check_unseen
from utils.video import contact_sheet
from utils.weights.model_kinds import check_adapter, check_pipeline

PARTS = ("unet", "vae", "image_encoder", "scheduler", "feature_extractor")
KINDS = ("*.json", "*.safetensors")
GAP = 8  # pixels between two clips of a sheet


class VideoBench(JudgedBench):
    """Models of an evaluation, by its arguments."""

    def load(self, kind: type):
        """A pipeline of a class, still on the CPU."""
        pipe = load_pipeline(kind, self.args.model_dir, self.args.dtype, "--model_dir")
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def load_controlled(self, kind: type):
        """A pipeline of a class with --controlnet, on the device."""
        pipe = self.load(kind)
        pipe.load_controlnet(self.args.controlnet)
        return pipe.to(self.args.device)

    @cached_property
    def clips(self) -> TrueClips:
        """True clips that no training has seen."""
        args = self.args
        return TrueClips(args.cache_dir, args.first_seed, args.num_frames, args.resolution)

    @cached_property
    def pipe(self) -> StableVideoDiffusionEDMPipeline:
        """The base alone."""
        return self.load(StableVideoDiffusionEDMPipeline).to(self.args.device)

    @cached_property
    def buckets(self) -> MotionBuckets:
        """The base's map from motion to motion buckets."""
        return MotionBuckets.load(self.args.model_dir)

    @cached_property
    def flow(self):
        """DIS at twice the size, which finds small motion better."""
        return flow_estimator("dis", inference_size=(2 * self.args.resolution,) * 2)

    def true_buckets(self, videos: torch.Tensor) -> torch.Tensor:
        """Motion buckets (B,) of true videos (B, F, 3, H, W)."""
        flow, buckets = flow_estimator(self.buckets.backend), self.buckets
        return buckets.ids(motion_scores(flow, videos, self.args.fps, buckets.short_side, buckets.time_step))

    def noise(self, numbers: Sequence[int]) -> list[torch.Generator]:
        """A generator for each clip: it has one noise, whatever the task."""
        return [torch.Generator().manual_seed(self.args.seed + i) for i in numbers]

    def sampling(self, **given) -> dict:
        """Keyword arguments of a pipeline; given ones win over the command's."""
        return VideoSampling.from_args(self.args, **given).options()


def eight_bits(videos: torch.Tensor) -> torch.Tensor:
    """Pixels in [-1, 1] as a file would hold them, so that all kinds of videos are measured alike."""
    return videos.clamp(-1, 1).add(1).mul(127.5).round().div(127.5).sub(1)


@torch.no_grad()
def reconstruct_clips(pipe: StableVideoDiffusionEDMPipeline, videos: torch.Tensor) -> torch.Tensor:
    """Clips (B, F, 3, H, W) in [-1, 1] through the autoencoder, decoded as samples are; float32 on the CPU."""
    with pipe.upcast_vae():
        frames = videos.flatten(0, 1).to(pipe.vae.device, pipe.vae.dtype)
        latents = pipe.vae.encode(frames).latent_dist.mode() * pipe.vae.config.scaling_factor
    return pipe.decode(latents.unflatten(0, videos.shape[:2])).cpu()


def clip_sheet(*kinds: torch.Tensor) -> list[list[Image.Image]]:
    """One column of the first clips: of each, its kinds as rows of frames below one another."""
    column = []
    for versions in list(zip(*kinds, strict=True))[:SHOWN]:
        strips = [contact_sheet(video, columns=len(video)) for video in versions]
        column += [*strips, Image.fromarray(np.full((GAP, strips[0].width, 3), 255, np.uint8))]
    return [column]


def add_video_bench_arguments(
    parser: argparse.ArgumentParser,
    number: int,
    batch_size: int = 5,
    things: str = "clips",
    leave_out: Collection[str] = (),
) -> None:
    """Base, clips, run and sampling; arguments as of `protocol.add_clip_arguments`, batch_size: the default."""
    parser.add_argument("--model_dir", default=shipped("tiny_svd"), help="folder of the base")
    add_clip_arguments(parser, number, things, leave_out)
    add_run_arguments(parser, batch_size)
    add_sampling_arguments(parser, leave_out=set(leave_out) & set(VideoSampling.names()), fps=8.0)


def model_files(folder: str | Path) -> list[Path]:
    """What decides a pipeline's samples: weights and configurations of its parts; none if there is no such folder."""
    index = filter(Path.is_file, [Path(folder, "model_index.json")])
    return [*index, *(file for part in PARTS for kind in KINDS for file in Path(folder, part).glob(kind))]


def base_files(folder: str | Path) -> list[Path]:
    """`model_files` and the map of motion buckets."""
    return [*model_files(folder), *filter(Path.is_file, [buckets_file(folder)])]


def check_video(args: argparse.Namespace) -> None:
    """Raises ValueError for scenes that a training may have seen, or numbers of the sampling that do not fit."""
    check_unseen(args.first_seed)
    VideoSampling.from_args(args)


def check_base(args: argparse.Namespace) -> None:
    """Raises one sentence for a base that is not there, of another kind, or that does not divide --resolution."""
    check_file(args.model_dir, "model", "name another, or choose --tasks without one")
    check_pipeline(args.model_dir, StableVideoDiffusionEDMPipeline, "--model_dir")
    multiple = side_multiple(read_config(args.model_dir, "unet"), read_config(args.model_dir, "vae"))
    if args.resolution % multiple:
        raise ValueError(f"--resolution {args.resolution} is not a multiple of {multiple}, as {args.model_dir} needs.")


def check_buckets(args: argparse.Namespace) -> None:
    path = buckets_file(args.model_dir)
    check_file(path, "map of motion buckets", "fit one with utils.data.fit_motion_buckets")


def read_config(folder: str | Path, part: str) -> dict:
    """The configuration of a part of a pipeline."""
    path = Path(folder, part, "config.json")
    check_file(path, "model part", "name the folder of a StableVideoDiffusionPipeline")
    return json.loads(path.read_text())


def check_flow_adapter(path: str) -> None:
    """Raises one sentence for a path without a joint adapter of video and flow."""
    check_file(path, "--adapter", "name a file or folder of train_flow_video.py")
    check_adapter(path, "UNetSpatioTemporalConditionModel", "train_flow_video.py", "--adapter")


def samples_flow_alone(adapter: str) -> bool:
    """Whether a joint adapter was trained to sample the flow before its video."""
    training = patch.read_config(adapter).get("training") or {}
    return FlowAdapter.from_training("flow", FlowCode(), training).flow_alone
