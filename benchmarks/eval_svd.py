"""Measure image to video on clips of the procedural world that no training has seen.

python -m benchmarks.eval_svd --model_dir weights/tiny_svd --output_dir outputs/eval_svd

Prints a table and writes it as results.md, with results.json, motion.png (plots) and results.png (contact sheets). A run that was stopped goes on when
it is started again. --camera pan measures against clips of pans alone: once before and once after a fine-tuning on such clips, and
--compare_to names the output folder of the run before.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from benchmarks import svd_tasks
from benchmarks.chunks import digest, open_folder, run_in_chunks
from benchmarks.eval_depth_image import write_sheet, write_text
from benchmarks.svd_plots import plot
from benchmarks.svd_report import Results, summarize, table_lines
from utils.arguments import positive_int, run_script
from utils.diffusion.sampling import VideoSampling, add_sampling_arguments, parse_sampling_args
from utils.lora import lora_file
from utils.pretrained import check_device
from utils.scenes import UNSEEN, check_unseen
from utils.scenes.clips import REACHES

REPOSITORY = Path(__file__).resolve().parent.parent
TASKS = ("truth", "other", "frozen", "autoencoder", "samples", "fixed", "buckets")
BUCKETS = (16, 64, 127, 191, 255)
UNSETTLED = ("tasks", "device", "output_dir", "cache_dir", "compare_to", "overwrite", "config")  # decide no result
JUDGES = ("video", "attributes")


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = result.add_argument
    add("--model_dir", default=str(REPOSITORY / "weights/tiny_svd"), help="a StableVideoDiffusionPipeline")
    add(
        "--lora",
        nargs="+",
        default=[],
        metavar="PATH",
        help="adapters of train_svd.py, all active; motion buckets by the last one with a map",
    )
    add("--judges_dir", default=str(REPOSITORY / "weights/judges"))
    add("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    add("--num_clips", type=positive_int, default=500)
    add("--num_fixed", type=positive_int, default=100, help="of them that are also drawn with the fixed bucket")
    add("--num_swept", type=positive_int, default=50, help="of them that are drawn with each of --buckets")
    add("--buckets", type=int, nargs="+", default=list(BUCKETS), help="motion buckets to try")
    add("--camera", choices=list(REACHES), help="true clips of this move of the camera alone; drawn, by default")
    add("--first_seed", type=int, default=UNSEEN, help="of the clips; take others to choose settings by")
    add("--num_frames", type=positive_int, default=8)
    add("--resolution", type=positive_int, default=64)
    add("--batch_size", type=positive_int, default=5)
    add_sampling_arguments(result, leave_out=("motion_bucket_id",), fps=8.0)
    add("--seed", type=int, default=0, help="of the noise")
    add("--cache_dir", default="cache", help="folder of all caches; holds the true clips")
    add("--output_dir", required=True)
    add("--compare_to", help="output_dir of another model's run on the same clips")
    add("--overwrite", action="store_true", help="drop what output_dir holds of other settings")
    add("--device", default="cpu")
    add("--dtype", choices=("float32", "float16", "bfloat16"), default="float32")
    return result


def main(argv=None) -> Path:
    """Runs the command and returns the folder of its results."""
    args = parse_sampling_args(parser(), argv)
    check(args)
    folder = Path(args.output_dir)
    open_folder(folder, settings(args), args.overwrite)
    bench = svd_tasks.Bench(args)
    for task in args.tasks:
        compute = getattr(svd_tasks, task)
        run_in_chunks(folder, task, count(vars(args), task), args.batch_size, lambda i, f=compute: f(bench, i))
    report(folder, args.compare_to)
    return folder


def check(args) -> None:
    """Raises one sentence about what would fail after a long time."""
    VideoSampling.from_args(args)
    check_device(args.device)
    check_unseen(args.first_seed)
    for judge in JUDGES:
        if not (path := Path(args.judges_dir, f"{judge}.safetensors")).is_file():
            raise FileNotFoundError(f"There is no judge {path}; train one with train_models/train_judges.py.")
    if {"autoencoder", "samples", "fixed", "buckets"} & set(args.tasks) and not Path(args.model_dir).is_dir():
        raise FileNotFoundError(f"There is no model {args.model_dir}: name another, or choose --tasks without one.")
    for path in args.lora:
        if not lora_file(path).is_file():
            raise FileNotFoundError(f"There is no --lora {path}.")
    if "samples" in args.tasks and not (path := svd_tasks.motion_map(args)).is_file():
        raise FileNotFoundError(f"There is no map of motion {path}: fit one with utils.fit_motion_buckets.")
    if args.num_frames < 2 or args.num_clips < 4:
        raise ValueError(f"--num_frames {args.num_frames} has to be 2 at least, and --num_clips {args.num_clips} 4.")
    if max(args.num_fixed, args.num_swept) > args.num_clips:
        raise ValueError(
            f"--num_fixed {args.num_fixed} and --num_swept {args.num_swept} are of {args.num_clips} clips."
        )
    if len(set(args.buckets)) < 2:
        raise ValueError(f"--buckets {args.buckets}: a rank correlation needs two different ones.")
    if args.compare_to and not Path(args.compare_to, "settings.json").is_file():
        raise FileNotFoundError(f"--compare_to {args.compare_to} holds no results of this evaluation.")


def settings(args) -> dict:
    """The arguments that decide the results, and hashes of the files that do."""
    judges = [Path(args.judges_dir, f"{judge}.safetensors") for judge in JUDGES]
    return {key: value for key, value in vars(args).items() if key not in UNSETTLED} | {
        "model_hash": digest(svd_tasks.model_files(args.model_dir)),
        "motion_map_hash": digest(filter(Path.is_file, [svd_tasks.motion_map(args)])),
        "lora_hash": digest(map(lora_file, args.lora)),
        "judges_hash": digest(judges),
    }


def count(arguments: dict, task: str) -> int:
    """Samples of a task."""
    if task == "buckets":
        return arguments["num_swept"] * len(arguments["buckets"])
    return arguments["num_fixed" if task == "fixed" else "num_clips"]


def report(folder: Path, compare_to: str | None = None) -> None:
    """Table, JSON and pictures of all tasks that are complete in a folder."""
    results = read_results(folder)
    before = read_results(Path(compare_to)) if compare_to else None
    estimates = summarize(results, before)
    table = "\n".join(table_lines(estimates))
    content = {
        "settings": results.settings,
        "results": {task: {name: asdict(value) for name, value in found.items()} for task, found in estimates.items()},
    }
    write_text(folder / "results.json", json.dumps(content, indent=2) + "\n")
    write_text(folder / "results.md", table + "\n")
    write_sheet(folder, [task for task in results.rows if task != "frozen"])
    plot(folder / "motion.png", results)
    print(f"{table}\n\n{folder.resolve()}")


def read_results(folder: Path) -> Results:
    """The rows of all tasks that are complete in a folder."""
    arguments = json.loads((folder / "settings.json").read_text())
    rows = {}
    for task in TASKS:
        parts = sorted((folder / "partial" / task).glob("*.json"))
        found = [row for part in parts for row in json.loads(part.read_text())]
        if len(found) == count(arguments, task):
            rows[task] = found
    return Results(arguments, rows)


if __name__ == "__main__":
    run_script(main)
