"""Compare the forms of TRIP: how the first frame enters, and what the prediction is fused with.

for seed in 0 1 2; do for form in channels end front residual linear fusion; do
  python train_models/train_trip.py --form $form --seed $seed --output_dir outputs/trip_forms/$form-$seed …
done; done
python -m benchmarks.eval_trip --runs_dir outputs/trip_forms --output_dir outputs/eval_trip

Runs may be added to the folder and measured later. All are to begin with the same base and to have the same number of
steps. Prints a line for each form, the mean over its seeds with the lowest and the highest of them, and writes
results.md, results.json (each run with its interval over clips, too) and results.png. docs/experiments/trip.md has what
was measured.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import protocol
from benchmarks.protocol import Estimates, Results
from benchmarks.svd_report import fvd_to_truth, known_means
from benchmarks.trip_tasks import Bench, find_runs, form_of, make_tasks
from benchmarks.video_bench import KINDS, check_video
from utils.arguments import make_parser, run_script
from utils.diffusion.sampling import VideoSampling, add_sampling_arguments
from utils.metrics.statistics import Estimate

JUDGES = ("video", "attributes")
SHARED = ("num_clips", "num_frames", "resolution", "first_seed", "seed", "dtype", "judges_hash")
SAMPLING = tuple(name for name in VideoSampling.names() if name != "motion_bucket_id")
CONSISTENCY = ("consistency_4", "consistency_all", "clip_4", "clip_all")  # in percent, as in the paper
FIGURES = ("v_error", *CONSISTENCY, "shape_kept", "first_frame_error")


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    result.add_argument("--runs_dir", required=True, help="folder of folders FORM-SEED that train_trip.py wrote")
    protocol.add_clip_arguments(result, 100)
    protocol.add_run_arguments(result, batch_size=5)
    add_sampling_arguments(result, leave_out=("motion_bucket_id",), fps=8.0)
    protocol.add_judges_argument(result)
    result.add_argument(
        "--name", help="name of the results of one run, to keep beside others (default: that of the run)"
    )
    result.add_argument("--tasks", nargs="+", metavar="RUN", help="truth, and runs FORM-SEED (default: all)")
    return result


def check(args: argparse.Namespace) -> None:
    """Raises one sentence about what would fail after models are loaded."""
    check_video(args)
    protocol.check_judges(args.judges_dir, JUDGES)
    protocol.check_file(args.runs_dir, "--runs_dir", "train forms with train_models/train_trip.py")
    runs = find_runs(args.runs_dir)
    if not runs:
        raise FileNotFoundError(
            f"--runs_dir {args.runs_dir} has no folder FORM-SEED, such as fusion-0, of train_trip.py."
        )
    if unknown := sorted({*(args.tasks or ())} - {"truth", *runs}):
        raise ValueError(f"--tasks {unknown[0]} is none: --runs_dir {args.runs_dir} has {', '.join(runs)}.")
    protocol.check_count(args, "num_frames", 2)
    protocol.check_count(args, "num_clips", 4)


def files(args: argparse.Namespace) -> dict[str, list[Path]]:
    runs = find_runs(args.runs_dir)
    parts = {"truth": (runs[0], "image_encoder"), **{run: (run, "*") for run in runs}}
    return {"judges_hash": protocol.judge_files(args.judges_dir, JUDGES)} | {
        f"{task}_hash": [path for kind in KINDS for path in sorted(Path(args.runs_dir, run).glob(f"{part}/{kind}"))]
        for task, (run, part) in parts.items()
    }


class OwnHash(dict):
    """The setting that each task has for itself: the hash of its weights."""

    def __missing__(self, task: str) -> tuple[str]:
        return (f"{task}_hash",)


def summarize(results: Results, args: argparse.Namespace) -> Estimates:
    """Estimates of runs over clips, and of forms over their runs: mean, lowest and highest."""
    runs = {run: figures_of(results, run) for run in results.rows}
    forms = {}
    for run, figures in runs.items():
        if run != "truth":
            forms.setdefault(form_of(run), []).append(figures)
    return {form: over_seeds(found) for form, found in forms.items()} | runs


def figures_of(results: Results, run: str) -> dict[str, Estimate]:
    """Figures of a run, over clips."""
    names = [name for name in FIGURES if name in results.rows[run][0]]
    values = {name: results.values(run, name) * (100.0 if name in CONSISTENCY else 1.0) for name in names}
    return known_means(values) | fvd_to_truth(results, run)


def over_seeds(runs: list[dict[str, Estimate]]) -> dict[str, Estimate]:
    """The mean of each figure over runs, with its lowest and its highest value."""
    values = {name: [run[name].mean for run in runs] for name in runs[0]}
    return {name: Estimate(float(np.mean(v)), min(v), max(v)) for name, v in values.items()}


def table(estimates: Estimates, counts: dict[str, int]) -> list[str]:
    """A line for each form, and one for the true clips."""
    shown = {row: figures for row, figures in estimates.items() if row == "truth" or row not in counts}
    seeds = {form: sum(form_of(run) == form for run in counts) for form in shown}
    heads = {row: f"{row} ({seeds[row]} seeds)" if seeds[row] else row for row in shown}
    return protocol.wide_table(
        {heads[row]: figures for row, figures in shown.items()}, "form: mean (lowest to highest)"
    )


EVALUATION = protocol.Evaluation(
    "eval_trip", parser, lambda args: make_tasks(args.runs_dir), Bench, check, files, summarize, table=table,
    decides=OwnHash(), shared=(*SHARED, *SAMPLING),
)  # fmt: skip
main = partial(protocol.run, EVALUATION)

if __name__ == "__main__":
    run_script(main)
