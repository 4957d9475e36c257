"""Measure joint depth-image on scenes and captions that no training has seen.

python -m benchmarks.eval_depth_image --output_dir outputs/eval_depth_image

Prints a table and writes it as results.md, results.json and results.png. A run that was stopped goes on when it is started again.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from benchmarks import depth_image_tasks
from benchmarks.chunks import digest, open_folder, run_in_chunks
from utils.arguments import parse_args, positive_int, run_script
from utils.files import replacing
from utils.images import read_image
from utils.metrics.statistics import Estimate, bootstrap_mean, paired_difference

REPOSITORY = Path(__file__).resolve().parent.parent
TASKS = (
    "judges",
    "floor",
    "image_to_depth",
    "depth_to_image",
    "joint",
    "depth_edge_to_image",
    "obedience_base",
    "obedience_joint",
)
JUDGED = {
    "depth": {"judges", "depth_to_image", "joint", "depth_edge_to_image"},
    "attributes": {"judges", "obedience_base", "obedience_joint"},
}
PER_OBJECT = ("color", "shape")  # the others are means over pictures
UNSETTLED = ("tasks", "device", "output_dir", "overwrite", "config")  # arguments that do not decide a result
WEIGHTS = ("pretrained_model_name_or_path", "depth_adapter", "edge_adapter", "judges_dir")


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = result.add_argument
    add("--pretrained_model_name_or_path", default=str(REPOSITORY / "weights/tiny_sd"))
    add("--depth_adapter", default=str(REPOSITORY / "weights/depth_image/depth.safetensors"))
    add("--edge_adapter", default=str(REPOSITORY / "weights/depth_image/edge.safetensors"))
    add("--judges_dir", default=str(REPOSITORY / "weights/judges"))
    add("--train_data_dir", help="data set of the trainings: its captions are left out of the obedience tasks")
    add("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    add("--num_scenes", type=positive_int, default=200)
    add("--num_captions", type=positive_int, default=1000)
    add("--first_seed", type=int, default=2_000_000, help="of the scenes; take others to choose settings by")
    add("--batch_size", type=positive_int, default=32)
    add("--num_inference_steps", type=positive_int, default=15, help="of DPM-Solver++ multistep")
    add("--guidance_scale", type=float, default=7.5)
    add("--seed", type=int, default=0, help="of the noise")
    add("--output_dir", required=True)
    add("--overwrite", action="store_true", help="drop what output_dir holds of other settings")
    add("--device", default="cpu")
    add("--dtype", choices=("float32", "float16", "bfloat16"), default="float32")
    return result


def main(argv=None) -> Path:
    """Runs the command and returns the folder of its results."""
    args = parse_args(parser(), argv)
    check_files(args)
    folder = Path(args.output_dir)
    open_folder(folder, settings(args), args.overwrite)
    bench = depth_image_tasks.Bench(args)
    for task in args.tasks:
        compute = getattr(depth_image_tasks, task)
        samples = args.num_captions if task.startswith("obedience") else args.num_scenes
        run_in_chunks(folder, task, samples, args.batch_size, lambda indices, f=compute: f(bench, indices))
    report(folder)
    return folder


def check_files(args) -> None:
    """Raises FileNotFoundError before any work if a file of the tasks is missing."""
    tasks = set(args.tasks)
    needed = [args.depth_adapter] if tasks - {"judges", "floor", "obedience_base"} else []
    needed += [args.edge_adapter] if "depth_edge_to_image" in tasks else []
    needed += [Path(args.judges_dir) / f"{judge}.safetensors" for judge, users in JUDGED.items() if tasks & users]
    for path in needed:
        if not Path(path).exists():
            raise FileNotFoundError(f"There is no file {path}: name another, or choose --tasks that do without it.")


def settings(args) -> dict:
    """The arguments that decide the results, and hashes of the weights in local folders."""
    return {key: value for key, value in vars(args).items() if key not in UNSETTLED} | {
        f"{name}_hash": digest(weight_files(Path(getattr(args, name)))) for name in WEIGHTS
    }


def weight_files(path: Path) -> list[Path]:
    return [path] if path.is_file() else list(path.rglob("*.safetensors"))


def report(folder: Path) -> None:
    """Table, JSON and picture of all tasks that are complete in a folder."""
    arguments = json.loads((folder / "settings.json").read_text())
    rows = {task: found for task in TASKS if (found := complete_rows(folder, task, arguments))}
    estimates = {task: summarize(found) for task, found in rows.items()}
    if {"obedience_base", "obedience_joint"} <= rows.keys():
        estimates["obedience_joint - obedience_base"] = compare(rows["obedience_joint"], rows["obedience_base"])
    table = "\n".join(table_lines(estimates, {task: len(found) for task, found in rows.items()}))
    results = {name: {key: asdict(value) for key, value in values.items()} for name, values in estimates.items()}
    write_text(folder / "results.json", json.dumps({"settings": arguments, "results": results}, indent=2) + "\n")
    write_text(folder / "results.md", table + "\n")
    write_sheet(folder, list(rows))
    print(f"{table}\n\n{folder.resolve()}")


def complete_rows(folder: Path, task: str, arguments: dict) -> list[dict]:
    """The rows of a task, none if some are missing."""
    due = arguments["num_captions" if task.startswith("obedience") else "num_scenes"]
    parts = sorted((folder / "partial" / task).glob("*.json"))
    rows = [row for part in parts for row in json.loads(part.read_text())]
    return rows if len(rows) == due else []


def summarize(rows: list[dict]) -> dict[str, Estimate]:
    """Mean and 95% interval of each number, over objects or over pictures; pictures are what is resampled."""
    return {key: bootstrap_mean([row[key] for row in rows], units(rows, key)) for key in rows[0] if key != "objects"}


def compare(first: list[dict], second: list[dict]) -> dict[str, Estimate]:
    """Difference of two tasks on the same captions and noise."""
    return {
        key: paired_difference([row[key] for row in first], [row[key] for row in second], units(first, key))
        for key in ("color", "shape", "count")
    }


def units(rows: list[dict], key: str) -> list[int] | None:
    return [row["objects"] for row in rows] if key.rpartition("_")[2] in PER_OBJECT else None


def table_lines(estimates: dict, counts: dict[str, int]) -> list[str]:
    lines = ["| task | measure | mean | 95% interval | pictures |", "|---|---|---|---|---|"]
    for task, values in estimates.items():
        pictures = counts.get(task, counts.get("obedience_base"))
        lines += [
            f"| {task} | {key} | {value.mean:.4f} | {value.low:.4f} to {value.high:.4f} | {pictures} |"
            for key, value in values.items()
        ]
    return lines


def write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text)


def write_sheet(folder: Path, tasks: list[str]) -> None:
    """One picture of the first samples of each task, below its name."""
    stack_pictures(folder, {task: folder / "partial" / task / "picture.png" for task in tasks})


def stack_pictures(folder: Path, pictures: dict[str, Path]) -> None:
    """Write those of the pictures that are there, each below its name, as results.png."""
    found = {name: path for name, path in pictures.items() if path.is_file()}
    strips = [strip for name, path in found.items() for strip in (title(name), read_image(path))]
    if not strips:
        return
    sheet = Image.new("RGB", (max(s.width for s in strips), sum(s.height for s in strips)), "white")
    for strip, top in zip(strips, np.cumsum([0, *(s.height for s in strips)]).tolist(), strict=False):
        sheet.paste(strip, (0, top))
    with replacing(folder / "results.png") as temporary:
        sheet.save(temporary)


def title(text: str) -> Image.Image:
    strip = Image.new("RGB", (8 * len(text) + 8, 16), "white")
    ImageDraw.Draw(strip).text((4, 2), text, fill="black")
    return strip


if __name__ == "__main__":
    run_script(main)
