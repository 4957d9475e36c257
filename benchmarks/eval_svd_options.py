"""Measure what --temporal_smoothing and --motion_scale of run_svd do, on scenes that no training has seen.

python -m benchmarks.eval_svd_options --output_dir outputs/eval_svd_options

flow: mean length of the flow in pixels. flicker: mean absolute second difference over frames. sharpness: mean absolute
difference of neighbouring pixels in a frame. The noise is the same for all values. Prints a table and writes
results.md, results.json and results.png, the first videos of each value as rows. A run that was stopped goes on when it
is started again.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks import protocol
from benchmarks.video_bench import VideoBench, add_video_bench_arguments, check_base, check_video
from pipelines.adjustments import adjust_frames
from utils.arguments import make_parser, run_script
from utils.diffusion.sampling import VideoSampling, parse_sampling_args
from utils.flow import estimate_flow
from utils.images import to_image
from utils.messages.words import count
from utils.scenes import render_clip, sample_clip
from utils.video import to_pixels

MEASURES = ("flow", "flicker", "sharpness")
VALUES = {"temporal_smoothing": (0.0, 0.25, 0.5, 1.0), "motion_scale": (0.0, 0.5, 1.0, 1.5, 2.0)}


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    add_video_bench_arguments(result, 32, batch_size=8, leave_out=("num_frames", "cache_dir"))
    for name, values in VALUES.items():
        result.add_argument(f"--{name}", nargs="+", type=float, default=list(values), help="values to measure")
    return result


def check(args: argparse.Namespace) -> None:
    """Raises one sentence about what would fail after models are loaded."""
    check_video(args)
    tasks(args)
    check_base(args)


def tasks(args: argparse.Namespace) -> dict[str, protocol.Task]:
    """A task for each value that is asked for; "plain" is the sampling without either option."""
    options = [(value, 1.0) for value in args.temporal_smoothing] + [(0.0, value) for value in args.motion_scale]
    return {name_of(*pair): partial(measure, adjust=adjust_frames(*pair, args.still_threshold)) for pair in options}


def name_of(temporal_smoothing: float, motion_scale: float) -> str:
    if temporal_smoothing == 0 and motion_scale == 1:
        return "plain"
    return f"motion_scale {motion_scale:g}" if temporal_smoothing == 0 else f"temporal_smoothing {temporal_smoothing:g}"


@torch.no_grad()
def measure(bench: VideoBench, indices: range, adjust: Callable | None) -> protocol.Chunk:
    """Rows of figures, and a sheet of the first videos."""
    seeds = [bench.args.first_seed + index for index in indices]
    firsts = to_pixels(np.stack([render_clip(sample_clip(seed, 2), bench.args.resolution).video[0] for seed in seeds]))
    inputs = bench.pipe.prepare(firsts, sampling=VideoSampling.from_args(bench.args), generator=bench.noise(seeds))
    videos = bench.pipe.decode(bench.pipe.denoise(replace(inputs, adjust=adjust))).clamp(-1, 1).cpu()
    columns = [[to_image(frame) for frame in frames] for frames in videos[: protocol.SHOWN].transpose(0, 1)]
    return [figures(video) for video in videos], columns


def figures(video: torch.Tensor) -> dict[str, float]:
    """Figures of a video (F, 3, H, W) in [-1, 1]."""
    across, down = (video.diff(dim=dim).abs().mean().item() for dim in (-1, -2))
    return {
        "flow": estimate_flow(video).norm(dim=1).mean().item(),
        "flicker": video.diff(n=2, dim=0).abs().mean().item(),
        "sharpness": (across + down) / 2,
    }


def table(estimates: protocol.Estimates, counts: dict[str, int]) -> list[str]:
    return [*protocol.wide_table(estimates, "option"), "", f"{count(min(counts.values()), 'video')} each."]


def files(args: argparse.Namespace) -> dict[str, list[Path]]:
    return {"weights": list(Path(args.model_dir).rglob("*.safetensors"))}


EVALUATION = protocol.Evaluation(
    "eval_svd_options", parser, tasks, VideoBench, check, files, protocol.means_of(MEASURES),
    no_settings=tuple(VALUES), table=table, parse=parse_sampling_args,
)  # fmt: skip
main = partial(protocol.run, EVALUATION)

if __name__ == "__main__":
    run_script(main)
