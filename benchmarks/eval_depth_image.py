"""Measure joint depth and image on scenes and captions that no training has seen.

python -m benchmarks.eval_depth_image --output_dir outputs/eval_depth_image

Prints a table and writes results.md, results.json and results.png. A run that was stopped goes on when it is started again.
docs/evaluation.md has the protocol.
"""

import argparse
from functools import partial
from pathlib import Path

from benchmarks import depth_image_tasks
from benchmarks.protocol import (
    REPOSITORY,
    Estimates,
    Evaluation,
    Results,
    add_choice_argument,
    add_run_arguments,
    add_seed_argument,
    check_file,
    check_judges,
    make_parser,
    run,
)
from utils.arguments import positive_int, run_script
from utils.metrics.statistics import Estimate, bootstrap_mean, paired_difference
from utils.pretrained import check_device

TASKS = {
    name: getattr(depth_image_tasks, name)
    for name in (
        "judges",
        "floor",
        "image_to_depth",
        "depth_to_image",
        "joint",
        "depth_edge_to_image",
        "obedience_base",
        "obedience_joint",
    )
}
NEEDS = {  # files that tasks need
    "depth": {"image_to_depth", "depth_to_image", "joint", "depth_edge_to_image", "obedience_joint"},
    "edge": {"depth_edge_to_image"},
}
JUDGED = {
    "depth": {"judges", "depth_to_image", "joint", "depth_edge_to_image"},
    "attributes": {"judges", "obedience_base", "obedience_joint"},
}
PER_OBJECT = ("color", "shape")  # the others are means over images
WEIGHTS = ("pretrained_model_name_or_path", "depth_adapter", "edge_adapter", "judges_dir")


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    add, weights = result.add_argument, REPOSITORY / "weights"
    add("--pretrained_model_name_or_path", default=str(weights / "tiny_sd"), help="base (default: weights/tiny_sd)")
    for name in NEEDS:
        place = f"depth_image/{name}.safetensors"
        add(f"--{name}_adapter", default=str(weights / place), help=f"{name} adapter (default: weights/{place})")
    add("--judges_dir", default=str(weights / "judges"), help="folder of the judges (default: weights/judges)")
    add(
        "--train_data_dir",
        help="data set of the trainings, whose captions the obedience tasks leave out (default: none)",
    )
    add_choice_argument(result, TASKS)
    add("--num_scenes", type=positive_int, default=200, help="scenes of all tasks but obedience (default: 200)")
    add("--num_captions", type=positive_int, default=1000, help="captions of the obedience tasks (default: 1000)")
    add_seed_argument(result, "scenes")
    add_run_arguments(result, batch_size=32)
    add("--num_inference_steps", type=positive_int, default=15, help="steps of DPM-Solver++ multistep (default: 15)")
    add("--guidance_scale", type=float, default=7.5, help="guidance scale of the prompt (default: 7.5)")
    return result


def check(args: argparse.Namespace) -> None:
    """Raises one sentence about what would fail after models are loaded."""
    check_device(args.device)
    tasks = set(args.tasks or TASKS)
    for name, users in NEEDS.items():
        if tasks & users:
            check_file(getattr(args, f"{name}_adapter"), f"--{name}_adapter", "name another, or choose other --tasks")
    check_judges(args.judges_dir, [judge for judge, users in JUDGED.items() if tasks & users])
    if args.train_data_dir:
        check_file(args.train_data_dir, "--train_data_dir", "name the folder of a data set")


def files(args: argparse.Namespace) -> dict[str, list[Path]]:
    paths = {name: Path(getattr(args, name)) for name in WEIGHTS}
    return {
        f"{name}_hash": [path] if path.is_file() else list(path.rglob("*.safetensors")) for name, path in paths.items()
    }


def summarize(results: Results, args: argparse.Namespace) -> Estimates:
    """Means over images or objects, and the difference of the two obedience tasks."""
    estimates = {task: means(rows) for task, rows in results.rows.items()}
    if {"obedience_base", "obedience_joint"} <= results.rows.keys():
        difference = compare(results.rows["obedience_joint"], results.rows["obedience_base"])
        estimates["obedience_joint - obedience_base"] = difference
    return estimates


def means(rows: list[dict]) -> dict[str, Estimate]:
    """Mean and 95% interval of each figure, over objects or over images; images are what is resampled."""
    return {key: bootstrap_mean([row[key] for row in rows], units(rows, key)) for key in rows[0] if key != "objects"}


def compare(first: list[dict], second: list[dict]) -> dict[str, Estimate]:
    """Difference of two tasks on the same captions and noise."""
    return {
        key: paired_difference([row[key] for row in first], [row[key] for row in second], units(first, key))
        for key in ("color", "shape", "count")
    }


def units(rows: list[dict], key: str) -> list[int] | None:
    return [row["objects"] for row in rows] if key.rpartition("_")[2] in PER_OBJECT else None


EVALUATION = Evaluation(
    name="eval_depth_image",
    parser=parser,
    tasks=lambda args: TASKS,
    chosen=lambda args: args.tasks or TASKS,
    bench=depth_image_tasks.Bench,
    check=check,
    files=files,
    count=lambda settings, task: settings["num_captions" if task.startswith("obedience") else "num_scenes"],
    summarize=summarize,
)
main = partial(run, EVALUATION)

if __name__ == "__main__":
    run_script(main)
