"""Measure long videos on scenes that no training has seen: segments that overlap against restarts from the last frame.

python -m benchmarks.eval_long_video --output_dir outputs/eval_long_video

`truth` is the procedural clip of the same first frame, cut where `overlap` begins its segments: a video without drift
and seams. All ways are measured alike: drift over the segments of `overlap`; seams at the way's own, each with as many
frames before it as `overlap` fades. A true clip spreads the camera's path over all its frames, more than in the clips
that a model learns from: the mean flow of `truth` is smaller for that reason alone and does not compare with that of
samples.

Prints a table and writes results.md, results.json, results.png (drift over segments, seams) and sheet.png (a video a
row, a red line on each first frame of a segment). A run that was stopped goes on when it is started again.
"""

import argparse
from functools import partial
from pathlib import Path

from benchmarks import protocol
from benchmarks.long_video_plots import plot
from benchmarks.long_video_tasks import SEAMS, TASKS, LongBench, plan_segments
from benchmarks.video_bench import add_video_bench_arguments, check_base, check_video, model_files
from utils.arguments import make_parser, positive_int, run_script
from utils.diffusion.sampling import parse_sampling_args
from utils.messages.words import count
from utils.metrics.statistics import Estimate, bootstrap_mean


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    add = result.add_argument
    add_video_bench_arguments(result, 64, batch_size=8, leave_out=("num_frames", "cache_dir"))
    protocol.add_judges_argument(result)
    add("--total_frames", type=positive_int, default=26, help="frames of a video")
    add("--overlap_frames", type=positive_int, help="frames that segments share (default: a quarter of a segment)")
    return result


def check(args: argparse.Namespace) -> None:
    """Raises one sentence about what would fail after models are loaded."""
    check_video(args)
    protocol.check_judges(args.judges_dir, ["attributes"])
    check_base(args)
    plan_segments(args)


def files(args: argparse.Namespace) -> dict[str, list[Path]]:
    return {
        "model_hash": model_files(args.model_dir),
        "judge_hash": protocol.judge_files(args.judges_dir, ["attributes"]),
    }


def means(rows: list[dict]) -> dict[str, Estimate]:
    """Means over videos; seams as the mean change across them over the mean change elsewhere."""
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    found = {key: bootstrap_mean(values) for key, values in columns.items() if not key.startswith(tuple(SEAMS))}
    seams = {f"seam_{n}": bootstrap_mean(columns[f"{n}_across"], columns[f"{n}_elsewhere"]) for n in SEAMS}
    return seams | found


def summarize(results: protocol.Results, args: argparse.Namespace) -> protocol.Estimates:
    return {task: means(rows) for task, rows in results.rows.items()}


def table(estimates: protocol.Estimates, counts: dict[str, int]) -> list[str]:
    return [
        *protocol.wide_table(protocol.transposed(estimates), "measure"),
        "",
        f"{count(min(counts.values()), 'video')} each.",
    ]


EVALUATION = protocol.Evaluation(
    "eval_long_video", parser, lambda args: TASKS, LongBench, check, files, summarize,
    table=table, plot=plot, parse=parse_sampling_args,
)  # fmt: skip
main = partial(protocol.run, EVALUATION)

if __name__ == "__main__":
    run_script(main)
