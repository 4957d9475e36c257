"""Shared by the commands on videos and their flow: arguments, and checks before any work."""

import argparse
from collections.abc import Collection, Iterable
from pathlib import Path

from diffusers import StableVideoDiffusionPipeline

from pipelines.layouts import Layout
from pipelines.sizes import check_num_frames
from utils.arguments import filled, positive_int, seed
from utils.commands.argument_groups import add_machine_arguments, add_output_arguments, add_size_arguments
from utils.commands.results import check_output_dir
from utils.diffusion.sampling import VideoSampling, add_sampling_arguments
from utils.formats.frame_rates import check_fps
from utils.images import image_size
from utils.pretrained import choose_device, shipped

FRAMES = "frames of the video, 2 or more"
GAP_FRAMES = "frames that are sampled at once between two keyframes, these among them, 3 or more"


def add_base_argument(group) -> None:
    help_text = "folder or hub name of a Stable Video Diffusion base"
    group.add_argument("--model_dir", type=filled, default=shipped("tiny_svd"), help=help_text)


def add_result_arguments(parser: argparse.ArgumentParser) -> None:
    """Where results go, and on which machine they are made."""
    group = parser.add_argument_group("machine and results")
    add_machine_arguments(group)
    add_output_arguments(group)


def add_video_sampling(
    parser: argparse.ArgumentParser, leave_out: Collection[str] = (), frames: str = FRAMES, **defaults
) -> argparse._ArgumentGroup:
    """Fields of `VideoSampling` but for `leave_out`, seed, frames and size; `defaults` replace those of the fields.

    frames: What --num_frames counts.
    """
    group = parser.add_argument_group("sampling")
    add_sampling_arguments(group, leave_out=leave_out, **defaults)
    add = group.add_argument
    add("--seed", type=seed, default=0, help="noise seed")
    add("--num_frames", type=positive_int, help=f"{frames} (default: the model's own number)")
    add_size_arguments(group)
    memory = "frames to decode at once, fewer take less memory (default: all)"
    add("--decode_chunk_size", type=positive_int, help=memory)
    return group


def check_video_run(args: argparse.Namespace, inputs: Iterable[str | Path | None]) -> None:
    """Raises one sentence about what would fail after a long time.

    Args:
        inputs: Files and folders that are read.
    """
    VideoSampling.from_args(args)
    check_num_frames(args.num_frames)
    check_fps(args.fps, "video.mp4")
    check_output_dir(args.output_dir, args.overwrite, inputs)
    if image := getattr(args, "input_image", None):
        image_size(image)
    choose_device(args.device)


def check_video_base(
    args: argparse.Namespace, images: Iterable[str | Path] = (), needed: type = StableVideoDiffusionPipeline
) -> Layout:
    """What the base of --model_dir is made for; raises one sentence where it does not fit.

    Args:
        images: Files whose shape the results keep.
        needed: The class of pipelines that the base has to fit.
    """
    layout = Layout.read(args.model_dir, "--model_dir", needed)
    layout.check_sides(args.height, args.width)
    for path in images:
        layout.target_size(args.height, args.width, image_size(path)[::-1])
    return layout
