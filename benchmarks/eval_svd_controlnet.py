"""Measure whether videos follow a control, on clips of the procedural world that no training has seen.

python -m benchmarks.eval_svd_controlnet --control segmentation --controlnet outputs/segmentation \
    --output_dir outputs/eval_segmentation

Each clip is sampled from its first frame, with one noise, with its exact control, without any, and with the control of
another scene. A run that was stopped goes on when it is started again. Prints a table and writes results.md,
results.json and results.png (of the first clips the truth, the control and the sample).
"""

import argparse
import json
from functools import partial
from pathlib import Path

from benchmarks import protocol, video_bench
from benchmarks.control_tasks import MEASURED, TASKS, Bench
from benchmarks.protocol import Estimates, Results
from benchmarks.svd_report import fvd_to_truth, known_means
from pipelines.control_inputs import check_controlnet
from utils.arguments import finite_float, make_parser, run_script
from utils.metrics.statistics import Estimate, paired_difference

FIGURES = ("control_error", "given_error", "shape_kept")


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    video_bench.add_video_bench_arguments(result, 100, leave_out=("motion_bucket_id",))
    protocol.add_judges_argument(result)
    protocol.add_choice_argument(result, TASKS)
    add = result.add_argument
    add("--control", choices=MEASURED, required=True, help="what the ControlNet reads")
    add("--controlnet", required=True, help="folder of train_svd_controlnet.py")
    add("--controlnet_conditioning_scale", type=finite_float, default=1.0, help="factor of the residuals")
    add("--guide_control", action="store_true", help="guidance strengthens the control, too")
    return result


def judges(args: argparse.Namespace) -> tuple[str, ...]:
    return ("video", "depth") if args.control == "depth" else ("video",)


def check(args: argparse.Namespace) -> None:
    """Raises one sentence about what would fail after models are loaded."""
    video_bench.check_video(args)
    video_bench.check_base(args)
    video_bench.check_buckets(args)
    protocol.check_judges(args.judges_dir, judges(args))
    protocol.check_count(args, "num_frames", 2)
    protocol.check_count(args, "num_clips", 4)
    config = Path(args.controlnet, "config.json")
    protocol.check_file(config, "ControlNet", "train one with train_models/train_svd_controlnet.py")
    check_controlnet(json.loads(config.read_text()), args.control, args.controlnet)


def files(args: argparse.Namespace) -> dict[str, list[Path]]:
    return {
        "judges_hash": protocol.judge_files(args.judges_dir, judges(args)),
        "model_hash": video_bench.base_files(args.model_dir),
        "controlnet_hash": protocol.weight_files(args.controlnet),
    }


def summarize(results: Results, args: argparse.Namespace) -> Estimates:
    """Means over clips, the Fréchet distance from the true clips, and differences of errors over the same clips."""
    found = {task: figures_of(results, task) for task in results.rows}
    for one, another, name in (("with", "without", "control_error"), ("other", "without", "control_error")):
        if {one, another} <= results.rows.keys():
            pair = results.values(one, name), results.values(another, name)
            found[f"{one} - {another}"] = {name: paired_difference(*pair)}
    return found


def figures_of(results: Results, task: str) -> dict[str, Estimate]:
    values = {name: results.values(task, name) for name in FIGURES}
    return known_means(values) | fvd_to_truth(results, task)


def table(estimates: Estimates, counts: dict[str, int]) -> list[str]:
    """A line for each task."""
    return protocol.wide_table(estimates, "control")


EVALUATION = protocol.Evaluation(
    "eval_svd_controlnet", parser, lambda args: TASKS, Bench, check, files, summarize, table=table,
)  # fmt: skip
main = partial(protocol.run, EVALUATION)

if __name__ == "__main__":
    run_script(main)
