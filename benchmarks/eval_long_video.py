"""Measure long videos on scenes that no training has seen: segments that overlap against restarts from the last frame.

python -m benchmarks.eval_long_video --output_dir outputs/eval_long_video

`truth` is the procedural clip of the same first frame, cut where `overlap` begins its segments: a video without drift and seams.
All ways are measured alike: drift over the segments of `overlap`; seams at the way's own, each with as many frames before it as
`overlap` fades. A true clip spreads the camera's path over all its frames, more than in the clips that a model learns from:
the mean flow of `truth` is smaller for that reason alone and does not compare with that of samples.

Prints a table and writes results.md, results.json, results.png (drift over segments, seams) and sheet.png (a video a row, a red
line on each first frame of a segment). A run that was stopped goes on when it is started again.
"""

import argparse
from functools import partial
from pathlib import Path

from benchmarks.long_video_plots import plot
from benchmarks.long_video_tasks import SEAMS, TASKS, LongBench, plan_segments
from benchmarks.protocol import (
    REPOSITORY,
    Estimates,
    Evaluation,
    add_run_arguments,
    add_seed_argument,
    check_judges,
    check_run,
    judge_files,
    make_parser,
    run,
    transposed,
    wide_table,
)
from benchmarks.video_bench import check_base, model_files
from utils.arguments import positive_int, run_script
from utils.diffusion.sampling import VideoSampling, add_sampling_arguments, parse_sampling_args
from utils.metrics.statistics import Estimate, bootstrap_mean


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    add, weights = result.add_argument, REPOSITORY / "weights"
    add("--model_dir", default=str(weights / "tiny_svd"), help="folder of the base (default: weights/tiny_svd)")
    add("--judges_dir", default=str(weights / "judges"), help="folder of the judges (default: weights/judges)")
    add("--num_clips", type=positive_int, default=64, help="number of scenes (default: 64)")
    add_seed_argument(result, "scenes")
    add("--total_frames", type=positive_int, default=26, help="frames of a video (default: 26)")
    add("--overlap_frames", type=positive_int, help="frames that segments share (default: a quarter of a segment)")
    add("--resolution", type=positive_int, default=64, help="side of a frame in pixels (default: 64)")
    add_run_arguments(result, batch_size=8)
    add_sampling_arguments(result, fps=8.0)
    return result


def check(args: argparse.Namespace) -> None:
    """Raises one sentence about what would fail after models are loaded."""
    check_run(args)
    VideoSampling.from_args(args)
    check_judges(args.judges_dir, ["attributes"])
    check_base(args)
    plan_segments(args)


def files(args: argparse.Namespace) -> dict[str, list[Path]]:
    return {"model_hash": model_files(args.model_dir), "judge_hash": judge_files(args.judges_dir, ["attributes"])}


def means(rows: list[dict]) -> dict[str, Estimate]:
    """Means over videos; seams as the mean change across them over the mean change elsewhere."""
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    found = {key: bootstrap_mean(values) for key, values in columns.items() if not key.startswith(tuple(SEAMS))}
    seams = {f"seam_{n}": bootstrap_mean(columns[f"{n}_across"], columns[f"{n}_elsewhere"]) for n in SEAMS}
    return seams | found


def table(estimates: Estimates, counts: dict[str, int]) -> list[str]:
    return [*wide_table(transposed(estimates), "measure"), "", f"{min(counts.values())} videos each."]


EVALUATION = Evaluation(
    name="eval_long_video",
    parser=parser,
    tasks=lambda args: TASKS,
    bench=LongBench,
    check=check,
    files=files,
    count=lambda settings, task: settings["num_clips"],
    summarize=lambda results, args: {task: means(rows) for task, rows in results.rows.items()},
    table=table,
    parse=parse_sampling_args,
    plot=plot,
)
main = partial(run, EVALUATION)

if __name__ == "__main__":
    run_script(main)
