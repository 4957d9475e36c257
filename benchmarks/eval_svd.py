"""Measure image to video on clips of the procedural world that no training has seen.

python -m benchmarks.eval_svd --model_dir weights/tiny_svd --output_dir outputs/eval_svd

Prints a table and writes results.md, results.json, motion.png (plots) and results.png (sheets). A run that was stopped goes on
when it is started again. --camera pan measures against clips of pans alone: once before and once after a fine-tuning on such
clips, and --compare_to names the output folder of the run before. docs/evaluation_svd.md has the protocol.
"""

import argparse
from functools import partial
from pathlib import Path

from benchmarks import svd_tasks
from benchmarks.protocol import (
    REPOSITORY,
    Estimates,
    Evaluation,
    Results,
    add_choice_argument,
    add_clip_arguments,
    add_run_arguments,
    check_count,
    check_file,
    check_judges,
    check_run,
    judge_files,
    make_parser,
    read_results,
    run,
    write_sheets,
)
from benchmarks.svd_plots import plot_motion
from benchmarks.svd_report import summarize
from benchmarks.video_bench import check_base, model_files
from utils.arguments import positive_int, run_script
from utils.diffusion.sampling import VideoSampling, add_sampling_arguments, parse_sampling_args
from utils.lora import lora_file
from utils.scenes.clips import REACHES

TASKS = {
    name: getattr(svd_tasks, name)
    for name in ("truth", "other", "frozen", "autoencoder", "samples", "fixed", "buckets")
}
NEED_MODEL = {"autoencoder", "samples", "fixed", "buckets"}
BUCKETS = (16, 64, 127, 191, 255)
JUDGES = ("video", "attributes")


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    add, weights = result.add_argument, REPOSITORY / "weights"
    add("--model_dir", default=str(weights / "tiny_svd"), help="folder of the base (default: weights/tiny_svd)")
    add(
        "--lora",
        nargs="+",
        default=[],
        metavar="PATH",
        help="adapters of train_svd.py, all active; motion buckets by the last one with a map (default: none)",
    )
    add("--judges_dir", default=str(weights / "judges"), help="folder of the judges (default: weights/judges)")
    add_choice_argument(result, TASKS)
    add_clip_arguments(result, num_clips=500)
    add("--num_fixed", type=positive_int, default=100, help="clips of the task fixed (default: 100)")
    add("--num_swept", type=positive_int, default=50, help="clips of the task buckets (default: 50)")
    add(
        "--buckets",
        type=int,
        nargs="+",
        default=list(BUCKETS),
        help=f"motion buckets of the task buckets (default: {' '.join(map(str, BUCKETS))})",
    )
    add("--camera", choices=list(REACHES), help="move of the camera in all true clips (default: random)")
    add_run_arguments(result, batch_size=5)
    add_sampling_arguments(result, leave_out=("motion_bucket_id",), fps=8.0)
    add("--compare_to", help="--output_dir of another model's run on the same clips (default: none)")
    return result


def check(args: argparse.Namespace) -> None:
    """Raises one sentence about what would fail after models are loaded."""
    check_run(args)
    VideoSampling.from_args(args)
    check_judges(args.judges_dir, JUDGES)
    tasks = set(args.tasks or TASKS)
    if NEED_MODEL & tasks:
        check_base(args)
    for path in args.lora:
        check_file(lora_file(path), "--lora", "name a file or folder of train_svd.py")
    if "samples" in tasks:
        check_file(svd_tasks.motion_map(args), "map of motion buckets", "fit one with utils.data.fit_motion_buckets")
    check_count(args, "num_frames", 2)
    check_count(args, "num_clips", 4)
    for name in ("num_fixed", "num_swept"):
        if getattr(args, name) > args.num_clips:
            raise ValueError(f"--{name} {getattr(args, name)} is more than --num_clips {args.num_clips}: lower it.")
    if len(set(args.buckets)) < 2:
        raise ValueError(f"--buckets {args.buckets}: a rank correlation needs two different ones; pass more.")
    if args.compare_to and not Path(args.compare_to, "settings.json").is_file():
        raise FileNotFoundError(
            f"--compare_to {args.compare_to} holds no results: name the --output_dir of another run."
        )


def files(args: argparse.Namespace) -> dict[str, list[Path]]:
    return {
        "model_hash": model_files(args.model_dir),
        "motion_map_hash": list(filter(Path.is_file, [svd_tasks.motion_map(args)])),
        "lora_hash": list(map(lora_file, args.lora)),
        "judges_hash": judge_files(args.judges_dir, JUDGES),
    }


def count(settings: dict, task: str) -> int:
    if task == "buckets":
        return settings["num_swept"] * len(settings["buckets"])
    return settings["num_fixed" if task == "fixed" else "num_clips"]


def compare(results: Results, args: argparse.Namespace) -> Estimates:
    """Estimates of a run, and its differences from that of --compare_to."""
    return summarize(results, read_results(EVALUATION, args, Path(args.compare_to)) if args.compare_to else None)


def plot(folder: Path, results: Results, estimates: Estimates) -> None:
    write_sheets(folder, results, estimates)
    plot_motion(folder / "motion.png", results)


EVALUATION = Evaluation(
    name="eval_svd",
    parser=parser,
    tasks=lambda args: TASKS,
    chosen=lambda args: args.tasks or TASKS,
    bench=svd_tasks.Bench,
    check=check,
    files=files,
    count=count,
    summarize=compare,
    parse=parse_sampling_args,
    plot=plot,
)
main = partial(run, EVALUATION)

if __name__ == "__main__":
    run_script(main)
