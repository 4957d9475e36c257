"""Measure what --temporal_smoothing and --motion_scale of run_svd do, on scenes that no training has seen.

python -m benchmarks.eval_svd_options --output_dir outputs/eval_svd_options

flow: mean length of the flow in pixels. flicker: mean absolute second difference over frames. sharpness: mean absolute difference of neighbouring
pixels in a frame. The noise is the same for all values. Prints a table and writes it as results.md and results.json; partial/*/picture.png
shows the first videos, a row each. A run that was stopped goes on when it is started again.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.chunks import SHOWN, digest, open_folder, run_in_chunks
from pipelines.adjustments import adjust_frames
from pipelines.pipeline_stable_video_diffusion import StableVideoDiffusionEDMPipeline
from utils.arguments import parse_args, positive_int, run_script
from utils.diffusion.sampling import VideoSampling, add_sampling_arguments
from utils.files import replacing
from utils.flow import estimate_flow
from utils.images import to_image
from utils.metrics.statistics import bootstrap_mean
from utils.pretrained import loading
from utils.scenes import UNSEEN, check_unseen, render_clip, sample_clip
from utils.video import to_pixels

REPOSITORY = Path(__file__).resolve().parent.parent
UNSETTLED = ("device", "output_dir", "overwrite", "config", "temporal_smoothing", "motion_scale")
MEASURES = ("flow", "flicker", "sharpness")


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = result.add_argument
    add("--model_dir", default=str(REPOSITORY / "weights/tiny_svd"))
    add("--temporal_smoothing", nargs="+", type=float, default=[0.0, 0.25, 0.5, 1.0])
    add("--motion_scale", nargs="+", type=float, default=[0.0, 0.5, 1.0, 1.5, 2.0])
    add("--num_clips", type=positive_int, default=32)
    add("--first_seed", type=int, default=UNSEEN, help="of the scenes; take others to choose settings by")
    add("--resolution", type=positive_int, default=64)
    add_sampling_arguments(result, fps=8.0)
    add("--batch_size", type=positive_int, default=8)
    add("--seed", type=int, default=0, help="of the noise")
    add("--output_dir", required=True)
    add("--overwrite", action="store_true", help="drop what output_dir holds of other settings")
    add("--device", default="cpu")
    return result


def main(argv=None) -> Path:
    """Runs the command and returns the folder of its results."""
    args = parse_args(parser(), argv)
    check_unseen(args.first_seed)
    VideoSampling.from_args(args)
    options = [(value, 1.0) for value in args.temporal_smoothing] + [(0.0, value) for value in args.motion_scale]
    adjustments = {name_of(*pair): adjust_frames(*pair) for pair in options}
    with loading(args.model_dir):
        pipe = StableVideoDiffusionEDMPipeline.from_pretrained(args.model_dir).to(args.device)
    pipe.set_progress_bar_config(disable=True)
    folder = Path(args.output_dir)
    arguments = {key: value for key, value in vars(args).items() if key not in UNSETTLED}
    arguments["weights"] = digest(Path(args.model_dir).rglob("*.safetensors"))
    open_folder(folder, arguments, args.overwrite)
    rows = {
        name: run_in_chunks(folder, name, args.num_clips, args.batch_size, partial(measure, args, pipe, adjust))
        for name, adjust in adjustments.items()
    }
    report(folder, arguments, rows)
    return folder


def name_of(temporal_smoothing: float, motion_scale: float) -> str:
    if temporal_smoothing == 0 and motion_scale == 1:
        return "plain"
    return f"motion_scale {motion_scale:g}" if temporal_smoothing == 0 else f"temporal_smoothing {temporal_smoothing:g}"


def measure(args, pipe, adjust: Callable | None, part: range):
    """Rows of figures, and pictures of the first videos, column by column."""
    seeds = [args.first_seed + index for index in part]
    firsts = to_pixels(np.stack([render_clip(sample_clip(seed, 2), args.resolution).video[0] for seed in seeds]))
    inputs = pipe.prepare(
        firsts,
        sampling=VideoSampling.from_args(args),
        generator=[torch.Generator().manual_seed(args.seed + seed) for seed in seeds],
    )
    videos = pipe.decode(pipe.denoise(inputs, adjust)).clamp(-1, 1).cpu()
    columns = [[to_image(frame) for frame in frames] for frames in videos[:SHOWN].transpose(0, 1)]
    return [figures(video) for video in videos], columns


def figures(video: torch.Tensor) -> dict[str, float]:
    """Of a video (F, 3, H, W) in [-1, 1]."""
    across, down = (video.diff(dim=dim).abs().mean().item() for dim in (-1, -2))
    return {
        "flow": estimate_flow(video).norm(dim=1).mean().item(),
        "flicker": video.diff(n=2, dim=0).abs().mean().item(),
        "sharpness": (across + down) / 2,
    }


def report(folder: Path, arguments: dict, rows: dict[str, list[dict]]) -> None:
    estimates = {
        name: {key: bootstrap_mean([row[key] for row in found]) for key in MEASURES} for name, found in rows.items()
    }
    lines = [f"| option | {' | '.join(MEASURES)} |", "|---" * (len(MEASURES) + 1) + "|"]
    for name, found in estimates.items():
        cells = [f"{value.mean:.3f} ({value.low:.3f} to {value.high:.3f})" for value in found.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    results = {name: {key: asdict(value) for key, value in found.items()} for name, found in estimates.items()}
    for name, text in (
        ("results.md", "\n".join(lines)),
        ("results.json", json.dumps({"settings": arguments, "results": results}, indent=2)),
    ):
        with replacing(folder / name) as temporary:
            temporary.write_text(text + "\n")
    print("\n".join(lines) + f"\n\n{folder.resolve()}")


if __name__ == "__main__":
    run_script(main)
