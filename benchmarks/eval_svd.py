"""Measure image to video on clips of the procedural world that no training has seen.

python -m benchmarks.eval_svd --model_dir weights/tiny_svd --output_dir outputs/eval_svd

Prints a table and writes results.md, results.json, motion.png (plots) and results.png (sheets). A run that was stopped
goes on when it is started again. --camera pan measures against clips of pans alone: once before and once after a
fine-tuning on such clips, and --compare_to names the output folder of the run before. docs/evaluation_svd.md has the
protocol.
"""

import argparse
from functools import partial
from pathlib import Path

from benchmarks import protocol, svd_tasks
from benchmarks.svd_plots import plot_motion
from benchmarks.svd_report import summarize
from benchmarks.video_bench import add_video_bench_arguments, check_base, check_video, model_files
from utils.arguments import make_parser, positive_int, run_script
from utils.diffusion.sampling import parse_sampling_args
from utils.scenes.clips import REACHES
from utils.weights.lora import lora_file
from utils.weights.model_kinds import check_lora

TASKS = {
    name: getattr(svd_tasks, name)
    for name in ("truth", "other", "frozen", "autoencoder", "samples", "fixed", "buckets")
}
NEED_MODEL = {"autoencoder", "samples", "fixed", "buckets"}
BUCKETS = (16, 64, 127, 191, 255)
JUDGES = ("video", "attributes")


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    add = result.add_argument
    add_video_bench_arguments(result, 500, leave_out=("motion_bucket_id",))
    add(
        "--lora",
        nargs="+",
        default=[],
        metavar="PATH",
        help="adapters of train_svd.py, all active; motion buckets by the last one with a map (default: none)",
    )
    protocol.add_judges_argument(result)
    protocol.add_choice_argument(result, TASKS)
    add("--num_fixed", type=positive_int, default=100, help="clips of the task fixed")
    add("--num_swept", type=positive_int, default=50, help="clips of the task buckets")
    add("--buckets", type=int, nargs="+", default=list(BUCKETS), help="motion buckets of the task buckets")
    add("--camera", choices=list(REACHES), help="move of the camera in all true clips (default: random)")
    add("--compare_to", help="--output_dir of another model's run on the same clips (default: none)")
    return result


def check(args: argparse.Namespace) -> None:
    """Raises one sentence about what would fail after models are loaded."""
    check_video(args)
    protocol.check_judges(args.judges_dir, JUDGES)
    tasks = set(args.tasks or TASKS)
    if NEED_MODEL & tasks:
        check_base(args)
    for path in args.lora:
        protocol.check_file(lora_file(path), "--lora", "name a file or folder of train_svd.py")
        check_lora(path, "train_svd.py", "--lora")
    if "samples" in tasks:
        protocol.check_file(
            svd_tasks.motion_map(args), "map of motion buckets", "fit one with utils.data.fit_motion_buckets"
        )
    protocol.check_count(args, "num_frames", 2)
    protocol.check_count(args, "num_clips", 4)
    for name in ("num_fixed", "num_swept"):
        protocol.check_part(args, name, "num_clips")
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
        "judges_hash": protocol.judge_files(args.judges_dir, JUDGES),
    }


def count(settings: dict, task: str) -> int:
    if task == "buckets":
        return settings["num_swept"] * len(settings["buckets"])
    return settings["num_fixed" if task == "fixed" else "num_clips"]


def compare(results: protocol.Results, args: argparse.Namespace) -> protocol.Estimates:
    """Estimates of a run, and its differences from that of --compare_to."""
    return summarize(
        results, protocol.read_results(EVALUATION, args, Path(args.compare_to)) if args.compare_to else None
    )


def plot(folder: Path, results: protocol.Results, estimates: protocol.Estimates) -> None:
    protocol.write_sheets(folder, results, estimates)
    plot_motion(folder / "motion.png", results)


EVALUATION = protocol.Evaluation(
    "eval_svd", parser, lambda args: TASKS, svd_tasks.Bench, check, files, compare,
    count=count, plot=plot, parse=parse_sampling_args,
)  # fmt: skip
main = partial(protocol.run, EVALUATION)

if __name__ == "__main__":
    run_script(main)
