"""Measure flow drawn with its video on clips of the procedural world that no training has seen.

python -m benchmarks.eval_flow_video --adapter outputs/flow_video --flow_lora outputs/svd_flow --output_dir outputs/eval_flow_video

Prints a table and writes it as results.md, with results.json and results.png (contact sheets). A run that was stopped goes on when it
is started again. The protocol is in docs/evaluation_flow_video.md.
"""

import argparse
import json
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np

import patch
from benchmarks import flow_video_tasks
from benchmarks.chunks import digest, open_folder, run_in_chunks
from benchmarks.eval_depth_image import write_sheet, write_text
from benchmarks.svd_report import table_lines
from benchmarks.svd_tasks import model_files
from pipelines.flow_adapter import FlowAdapter
from utils.arguments import parse_args, positive_int, run_script
from utils.diffusion.sampling import FlowSampling, VideoSampling, add_sampling_arguments
from utils.flow import backward_flow
from utils.flow.code import FlowCode
from utils.lora import lora_file
from utils.metrics.statistics import Estimate, bootstrap_mean
from utils.motion_helper import buckets_file
from utils.pretrained import check_device
from utils.scenes import UNSEEN, check_unseen

REPOSITORY = Path(__file__).resolve().parent.parent
TASKS = ("truth", "other", "autoencoder", "joint", "flow_first", "flow_to_video", "video_to_flow", "svd_flow", "sweep")
OF_ADAPTER = {"autoencoder", "joint", "flow_first", "flow_to_video", "video_to_flow", "sweep"}
UNSETTLED = ("tasks", "device", "output_dir", "cache_dir", "overwrite", "config")  # decide no result


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = result.add_argument
    add("--model_dir", default=str(REPOSITORY / "weights/tiny_svd"), help="the base, a folder")
    add("--adapter", help="file or folder of train_flow_video.py; by default tasks of it are left out")
    add("--flow_lora", help="file or folder of train_svd_flow.py; by default the task svd_flow is left out")
    add("--tasks", nargs="+", choices=TASKS, help="by default all that the weights allow, but for sweep")
    add("--num_clips", type=positive_int, default=100)
    add("--num_swept", type=positive_int, default=25, help="of them that are drawn at each of --joint_guidance_scales")
    add("--joint_guidance_scales", type=float, nargs="+", default=[0.0, 1.0, 2.0, 4.0], help="of the task sweep")
    add("--first_seed", type=int, default=UNSEEN, help="of the clips; take others to choose settings by")
    add("--num_frames", type=positive_int, default=8)
    add("--resolution", type=positive_int, default=64)
    add("--batch_size", type=positive_int, default=5)
    add_sampling_arguments(result, leave_out=("motion_bucket_id",), fps=8.0)
    add_sampling_arguments(result, FlowSampling, leave_out=("flow_first", "flow_strength"))
    add("--seed", type=int, default=0, help="of the noise")
    add("--cache_dir", default="cache", help="folder of all caches; holds the true clips")
    add("--output_dir", required=True)
    add("--overwrite", action="store_true", help="drop what output_dir holds of other settings")
    add("--device", default="cpu")
    add("--dtype", choices=("float32", "float16", "bfloat16"), default="float32")
    return result


def main(argv=None) -> Path:
    """Runs the command and returns the folder of its results."""
    args = parse_args(parser(), argv)
    args.tasks = args.tasks or default_tasks(args)
    check(args)
    folder = Path(args.output_dir)
    open_folder(folder, settings(args), args.overwrite)
    bench = flow_video_tasks.FlowBench(args)
    for task in args.tasks:
        compute = partial(getattr(flow_video_tasks, task), bench)
        run_in_chunks(folder, task, count(vars(args), task), args.batch_size, compute)
    report(folder)
    return folder


def default_tasks(args) -> list[str]:
    tasks = [task for task in TASKS if task not in OF_ADAPTER | {"svd_flow"}]
    if args.adapter:
        left_out = {"sweep"} if draws_flow_alone(args.adapter) else {"sweep", "flow_first"}
        tasks += [task for task in TASKS if task in OF_ADAPTER - left_out]
    return tasks + ["svd_flow"] * bool(args.flow_lora)


def draws_flow_alone(adapter: str) -> bool:
    """Whether an adapter was trained to draw the flow before its video."""
    training = patch.read_config(adapter).get("training") or {}
    return FlowAdapter.from_training("flow", FlowCode(), training).flow_alone


def check(args) -> None:
    """Raises one sentence about what would fail after a long time."""
    VideoSampling.from_args(args)
    FlowSampling.from_args(args)
    check_device(args.device)
    check_unseen(args.first_seed)
    if OF_ADAPTER & set(args.tasks) and not args.adapter:
        raise ValueError(f"--tasks {' '.join(args.tasks)} need --adapter, a joint adapter of train_flow_video.py.")
    if "svd_flow" in args.tasks and not args.flow_lora:
        raise ValueError("--tasks svd_flow needs --flow_lora, a LoRA of train_svd_flow.py.")
    if args.adapter:
        patch.read_config(args.adapter)
    if "flow_first" in args.tasks and not draws_flow_alone(args.adapter):
        raise ValueError(
            f"--tasks flow_first needs an adapter that was trained with --flow_alone_share, not {args.adapter}."
        )
    if args.flow_lora and not lora_file(args.flow_lora).is_file():
        raise FileNotFoundError(f"There is no --flow_lora {args.flow_lora}.")
    if set(args.tasks) - {"truth", "other"} and not (path := buckets_file(args.model_dir)).is_file():
        raise FileNotFoundError(f"There is no map of motion {path}: fit one with utils.fit_motion_buckets.")
    if args.num_frames < 2:
        raise ValueError(f"--num_frames {args.num_frames}: motion needs 2 frames.")
    if "sweep" in args.tasks and args.num_swept > args.num_clips:
        raise ValueError(f"--num_swept {args.num_swept} are of {args.num_clips} clips: lower it.")


def settings(args) -> dict:
    """The arguments that decide the results, and hashes of the files that do."""
    adapters = [Path(args.adapter)] if args.adapter else []
    adapters = [file for path in adapters for file in (path.glob("*.safetensors") if path.is_dir() else [path])]
    return {key: value for key, value in vars(args).items() if key not in UNSETTLED} | {
        "model_hash": digest([*model_files(args.model_dir), *filter(Path.is_file, [buckets_file(args.model_dir)])]),
        "adapter_hash": digest(adapters),
        "way_hash": digest([Path(backward_flow.__file__)]),
        "lora_hash": digest([lora_file(args.flow_lora)] if args.flow_lora else []),
    }


def count(arguments: dict, task: str) -> int:
    """Samples of a task."""
    if task == "sweep":
        return arguments["num_swept"] * len(arguments["joint_guidance_scales"])
    return arguments["num_clips"]


def report(folder: Path) -> None:
    """Table, JSON and pictures of all tasks that are complete in a folder."""
    arguments = json.loads((folder / "settings.json").read_text())
    rows = read_rows(folder, arguments)
    estimates = {task: summarize(found) for task, found in rows.items() if task != "sweep"}
    if "sweep" in rows:
        estimates["sweep"] = summarize_sweep(rows["sweep"], arguments["joint_guidance_scales"])
    table = "\n".join(table_lines(estimates))
    results = {task: {name: asdict(value) for name, value in found.items()} for task, found in estimates.items()}
    write_text(folder / "results.json", json.dumps({"settings": arguments, "results": results}, indent=2) + "\n")
    write_text(folder / "results.md", table + "\n")
    write_sheet(folder, list(rows))
    print(f"{table}\n\n{folder.resolve()}")


def read_rows(folder: Path, arguments: dict) -> dict[str, list[dict]]:
    """Of all tasks that are complete."""
    found = {}
    for task in TASKS:
        parts = sorted((folder / "partial" / task).glob("*.json"))
        rows = [row for part in parts for row in json.loads(part.read_text())]
        if len(rows) == count(arguments, task):
            found[task] = rows
    return found


def summarize(rows: list[dict]) -> dict[str, Estimate]:
    """Means over clips, and ratios of means: shares are errors divided by motion, which a still video does not lower."""
    values = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    found = {name: bootstrap_mean(value) for name, value in values.items() if name not in ("scene", "scale")}
    found["epe_true_share"] = bootstrap_mean(values["epe_true"], values["exact_motion"])
    found["flow_motion_ratio"] = bootstrap_mean(values["flow_motion"], values["exact_motion"])
    if "epe" in values:
        found["epe_share"] = bootstrap_mean(values["epe"], np.maximum(values["motion"], 1e-6))
        found["motion_ratio"] = bootstrap_mean(values["motion"], values["true_motion"])
    return found


def summarize_sweep(rows: list[dict], scales: list[float]) -> dict[str, Estimate]:
    found = {}
    for scale in scales:
        some = summarize([row for row in rows if row["scale"] == scale])
        kept = ("epe", "epe_share", "motion_ratio", "flow_motion_ratio", "warping_error")
        found |= {f"{name}_at_{scale:g}": some[name] for name in kept}
    return found


if __name__ == "__main__":
    run_script(main)
