"""Measure joint depth and image on scenes and captions that no training has seen.

python -m benchmarks.eval_depth_image --output_dir outputs/eval_depth_image

Prints a table and writes results.md, results.json and results.png. A run that was stopped goes on when it is started
again. docs/evaluation_depth_image.md has the protocol.
"""

import argparse
from functools import partial
from pathlib import Path

from diffusers import StableDiffusionPipeline

from benchmarks import depth_image_tasks, protocol
from pipelines.image_pairs import check_depth_adapter, check_image_adapter, check_samples
from utils.arguments import make_parser, positive_int, run_script
from utils.metrics.statistics import Estimate, bootstrap_mean, paired_difference
from utils.pretrained import shipped
from utils.weights.model_kinds import check_pipeline

TASKS = {
    name: getattr(depth_image_tasks, name)
    for name in (
        "judges",
        "floor",
        "image_to_depth",
        "one_step",
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
    "one_step": {"one_step"},
}
SHIPPED = {"depth": "depth.safetensors", "edge": "edge.safetensors", "one_step": "one_step"}  # in weights/depth_image
JUDGED = {
    "depth": {"judges", "depth_to_image", "joint", "depth_edge_to_image"},
    "attributes": {"judges", "obedience_base", "obedience_joint"},
}
PER_OBJECT = ("color", "shape")  # the others are means over images
WEIGHTS = ("pretrained_model_name_or_path", "depth_adapter", "edge_adapter", "one_step_adapter", "judges_dir")


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    add = result.add_argument
    add("--pretrained_model_name_or_path", default=shipped("tiny_sd"), help="folder or hub name of the base")
    about = {name: f"{name} adapter" for name in SHIPPED} | {"one_step": "adapter of the task one_step"}
    for name, place in SHIPPED.items():
        add(f"--{name}_adapter", default=shipped(f"depth_image/{place}"), help=about[name])
    protocol.add_judges_argument(result)
    add(
        "--train_data_dir",
        help="data set of the trainings, whose captions the obedience tasks leave out (default: none)",
    )
    protocol.add_choice_argument(result, TASKS)
    add("--num_scenes", type=positive_int, default=200, help="scenes of all tasks but obedience")
    add("--num_captions", type=positive_int, default=1000, help="captions of the obedience tasks")
    protocol.add_seed_argument(result, "scenes")
    protocol.add_run_arguments(result, batch_size=32)
    add("--num_inference_steps", type=positive_int, default=15, help="steps of DPM-Solver++ multistep")
    add("--guidance_scale", type=float, default=7.5, help="guidance scale of the prompt")
    return result


def check(args: argparse.Namespace) -> None:
    """Raises one sentence about what would fail after models are loaded."""
    check_pipeline(args.pretrained_model_name_or_path, StableDiffusionPipeline, "--pretrained_model_name_or_path")
    tasks = set(args.tasks or TASKS)
    for name, users in NEEDS.items():
        if tasks & users:
            flag, path = f"--{name}_adapter", getattr(args, f"{name}_adapter")
            protocol.check_file(path, flag, "name another, or choose other --tasks")
            (check_image_adapter if name == "edge" else check_depth_adapter)(path, flag)
            if name != "one_step":
                check_samples(path, flag)
    protocol.check_judges(args.judges_dir, [judge for judge, users in JUDGED.items() if tasks & users])
    if args.train_data_dir:
        protocol.check_file(args.train_data_dir, "--train_data_dir", "name the folder of a data set")


def files(args: argparse.Namespace) -> dict[str, list[Path]]:
    paths = {name: Path(getattr(args, name)) for name in WEIGHTS}
    return {
        f"{name}_hash": [path] if path.is_file() else list(path.rglob("*.safetensors")) for name, path in paths.items()
    }


def summarize(results: protocol.Results, args: argparse.Namespace) -> protocol.Estimates:
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


def count(settings: dict, task: str) -> int:
    return settings["num_captions" if task.startswith("obedience") else "num_scenes"]


EVALUATION = protocol.Evaluation(
    "eval_depth_image", parser, lambda args: TASKS, depth_image_tasks.Bench, check, files, summarize, count=count
)
main = partial(protocol.run, EVALUATION)

if __name__ == "__main__":
    run_script(main)
