"""Measure long videos on scenes that no training has seen: segments with overlap against restarts from the last frame.

python -m benchmarks.eval_long_video --output_dir outputs/eval_long_video

`truth` is the procedural clip of the same first frame, cut where `overlap` begins its segments: what a video without drift and seams
gives. Every way is measured alike: drift over the segments of `overlap`; seams where the way's own are, each with as many frames before
it as `overlap` fades. A true clip spreads the camera's way over all its frames, more than in the clips that a model learns from: the
mean flow of `truth` is smaller for that alone and does not compare with that of samples.

Prints a table and writes results.md, results.json, results.png (drift over segments, seams) and sheet.png (a video a row, a red line on
each first frame of a segment). A run that was stopped goes on when it is started again.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.chunks import digest, open_folder, run_in_chunks
from benchmarks.svd_tasks import model_files
from pipelines.long_video import WAYS, LongVideo, count_overlap, sample_long_video, segment_starts
from pipelines.pipeline_stable_video_diffusion import StableVideoDiffusionEDMPipeline
from utils.arguments import parse_args, positive_int, run_script
from utils.diffusion.sampling import VideoSampling, add_sampling_arguments
from utils.files import replacing
from utils.flow import estimate_flow
from utils.images import read_image
from utils.judges import load_judge
from utils.metrics.drift import color_drift, content_drift, motion_drift, seam_change
from utils.metrics.statistics import Estimate, bootstrap_mean
from utils.metrics.video import frame_consistency
from utils.pretrained import loading
from utils.scenes import UNSEEN, check_unseen, render_clip, sample_clip
from utils.video import to_frames, to_pixels

REPOSITORY = Path(__file__).resolve().parent.parent
UNSETTLED = ("device", "output_dir", "overwrite", "config")  # arguments that do not decide a result
DRIFTS = {"color": "colours against segment 1", "content": "cosine to the first frame", "motion": "mean flow, px"}
SEAMS = {"jump": 1, "flicker": 2}  # order of the change
SHOWN = 6


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = result.add_argument
    add("--model_dir", default=str(REPOSITORY / "weights/tiny_svd"))
    add("--judges_dir", default=str(REPOSITORY / "weights/judges"))
    add("--num_clips", type=positive_int, default=64)
    add("--first_seed", type=int, default=UNSEEN, help="of the scenes; take others to choose settings by")
    add("--total_frames", type=positive_int, default=26)
    add("--overlap_frames", type=positive_int, help="by default a quarter of a segment")
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
    bench = Bench(args)
    folder = Path(args.output_dir)
    open_folder(folder, settings(args), args.overwrite)
    tasks = {"truth": bench.truth} | {way: lambda seeds, way=way: bench.generated(way, seeds) for way in WAYS}
    rows = {
        name: run_in_chunks(folder, name, args.num_clips, args.batch_size, lambda part, f=make: bench.measure(f, part))
        for name, make in tasks.items()
    }
    report(folder, settings(args), rows)
    return folder


def settings(args) -> dict:
    """The arguments that decide the results, and hashes of the files that do."""
    return {key: value for key, value in vars(args).items() if key not in UNSETTLED} | {
        "model_hash": digest(model_files(args.model_dir)),
        "judge_hash": digest([judge_file(args)]),
    }


def judge_file(args) -> Path:
    return Path(args.judges_dir, "attributes.safetensors")


def truth_seams(args, num_frames: int) -> tuple[int, tuple[int, ...]]:
    """How many frames segments of `overlap` share, and where they begin."""
    overlap = count_overlap("overlap", args.overlap_frames, num_frames)
    starts = segment_starts(args.total_frames, num_frames, overlap)
    if len(starts) < 2:
        raise ValueError(f"--total_frames {args.total_frames} is one segment: take more than {num_frames}.")
    return overlap, starts


class Bench:
    """Makes videos with their starts, and measures them."""

    def __init__(self, args):
        self.args = args
        with loading(args.model_dir):
            self.pipe = StableVideoDiffusionEDMPipeline.from_pretrained(args.model_dir).to(args.device)
        self.pipe.set_progress_bar_config(disable=True)
        self.judge = load_judge(judge_file(args), "attributes")
        self.overlap, self.starts = truth_seams(args, self.pipe.unet.config.num_frames)

    def truth(self, seeds: list[int]) -> LongVideo:
        clips = [sample_clip(seed, self.args.total_frames) for seed in seeds]
        pixels = torch.stack([to_pixels(render_clip(clip, self.args.resolution).video) for clip in clips])
        return LongVideo(pixels, self.starts)

    def generated(self, way: str, seeds: list[int]) -> LongVideo:
        args = self.args
        firsts = [render_clip(sample_clip(seed, 2), args.resolution).video[0] for seed in seeds]
        return sample_long_video(
            self.pipe,
            to_pixels(np.stack(firsts)),
            args.total_frames,
            way,
            args.overlap_frames if way == "overlap" else None,
            generator=[torch.Generator().manual_seed(args.seed + seed) for seed in seeds],
            **VideoSampling.from_args(args).options(),
        )

    @torch.no_grad()
    def measure(self, make: Callable, part: range):
        """Rows of figures, and pictures of the first videos, column by column."""
        made = make([self.args.first_seed + index for index in part])
        # Eight bits, as a file would hold, for all videos alike.
        rows = [self.figures(to_pixels(to_frames(video)), made.starts) for video in made.pixels]
        shown = [marked(video, made.starts) for video in made.pixels[:SHOWN]]
        return rows, [list(column) for column in zip(*shown, strict=True)]

    def figures(self, video: torch.Tensor, starts: tuple[int, ...]) -> dict:
        """Drift over the segments of `overlap`, whatever the way, and seams at the video's own starts with an equal window."""
        row = {"consistency": frame_consistency(video, self.judge.embed)}
        for name, order in SEAMS.items():
            row[f"{name}_across"], row[f"{name}_elsewhere"] = seam_change(video, starts, self.overlap, order)
        drifts = {
            "color": color_drift(video, self.starts),
            "content": content_drift(video, self.starts, self.judge.embed),
            "motion": motion_drift(estimate_flow(video), self.starts),
        }
        return row | {f"{name}_{k + 1}": value for name, values in drifts.items() for k, value in enumerate(values)}


def marked(video: torch.Tensor, starts: tuple[int, ...]) -> list[Image.Image]:
    """Frames as pictures, with a red line on top of those that begin a segment."""
    frames = to_frames(video).copy()
    frames[list(starts), :2] = (255, 0, 0)
    return [Image.fromarray(frame) for frame in frames]


def report(folder: Path, arguments: dict, rows: dict[str, list[dict]]) -> None:
    estimates = {way: summarize(found) for way, found in rows.items()}
    table = "\n".join(table_lines(estimates))
    results = {way: {key: asdict(value) for key, value in found.items()} for way, found in estimates.items()}
    write_text(folder / "results.json", json.dumps({"settings": arguments, "results": results}, indent=2) + "\n")
    write_text(folder / "results.md", table + "\n")
    write_plot(folder / "results.png", estimates)
    write_sheet(folder, list(rows))
    print(f"{table}\n\n{folder.resolve()}")


def summarize(rows: list[dict]) -> dict[str, Estimate]:
    """Means over videos with 95% intervals; seams as the mean change across them over the mean change elsewhere."""
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    found = {key: bootstrap_mean(values) for key, values in columns.items() if not key.startswith(tuple(SEAMS))}
    seams = {f"seam_{n}": bootstrap_mean(columns[f"{n}_across"], columns[f"{n}_elsewhere"]) for n in SEAMS}
    return seams | found


def table_lines(estimates: dict[str, dict[str, Estimate]]) -> list[str]:
    keys = list(dict.fromkeys(key for found in estimates.values() for key in found))
    lines = [f"| measure | {' | '.join(estimates)} |", "|---" * (len(estimates) + 1) + "|"]
    for key in keys:
        cells = [cell(found[key]) if key in found else "" for found in estimates.values()]
        lines.append(f"| {key} | {' | '.join(cells)} |")
    return lines


def cell(value: Estimate) -> str:
    return f"{value.mean:.3f} ({value.low:.3f} to {value.high:.3f})"


def write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text)


def write_plot(path: Path, estimates: dict[str, dict[str, Estimate]]) -> None:
    """Drift over segments, and seams, with 95% intervals."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 3.5), layout="constrained")
    *axes, last = figure.subplots(1, len(DRIFTS) + 1)
    for axis, (name, title) in zip(axes, DRIFTS.items(), strict=True):
        for way, found in estimates.items():
            values = [value for key, value in found.items() if key.startswith(f"{name}_")]
            errors(axis, range(1, len(values) + 1), values, way)
        axis.set(title=title, xlabel="segment")
        axis.legend()
    for place, (way, found) in enumerate(estimates.items()):
        errors(last, [k + place / 10 for k in range(len(SEAMS))], [found[f"seam_{name}"] for name in SEAMS], way, "o")
    last.set(title="change at seams / elsewhere", xticks=[0.1, 1.1], xticklabels=list(SEAMS))
    last.axhline(1, color="gray", linewidth=0.5)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def errors(axis, places, values: list[Estimate], label: str, style: str = "o-") -> None:
    spread = [[value.mean - value.low for value in values], [value.high - value.mean for value in values]]
    axis.errorbar(places, [value.mean for value in values], spread, fmt=style, label=label, capsize=3, markersize=4)


def write_sheet(folder: Path, names: list[str]) -> None:
    """The videos of each scene below one another: truth, overlap, restart."""
    pictures = [np.asarray(read_image(folder / "partial" / name / "picture.png")) for name in names]
    count = pictures[0].shape[0]
    side = json.loads((folder / "settings.json").read_text())["resolution"]
    rows = [picture[top : top + side] for top in range(0, count, side) for picture in pictures]
    with replacing(folder / "sheet.png") as temporary:
        Image.fromarray(np.concatenate(rows)).save(temporary)


if __name__ == "__main__":
    run_script(main)
