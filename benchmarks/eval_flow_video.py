"""Measure flow sampled with its video on clips of the procedural world that no training has seen.

python -m benchmarks.eval_flow_video --adapter outputs/flow_video --flow_lora outputs/svd_flow --output_dir outputs/eval

Prints a table and writes results.md, results.json and results.png (sheets). A run that was stopped goes on when it is
started again. docs/evaluation_flow_video.md has the protocol.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import flow_video_tasks, protocol, video_bench
from pipelines.flow_adapter import FlowAdapter
from utils.arguments import make_parser, positive_int, run_script
from utils.diffusion.one_step import DENOISING, ONE_STEP
from utils.diffusion.sampling import FlowSampling, add_sampling_arguments
from utils.flow import backward_flow
from utils.metrics.statistics import Estimate, bootstrap_mean
from utils.weights.lora import is_lora, read_training

LORA_TASKS = {ONE_STEP: "one_step", DENOISING: "svd_flow"}  # by the objective of --flow_lora
NEED_ADAPTER = ("autoencoder", "joint", "flow_first", "flow_to_video", "video_to_flow", "sweep")
NAMES = ("truth", "other", *NEED_ADAPTER[:-1], "one_step", "svd_flow", "sweep")
TASKS = {name: getattr(flow_video_tasks, name) for name in NAMES}
SCALES = (0.0, 1.0, 2.0, 4.0)
PARTS = ("scene", "scale", "edge_moment", "edge_weight")  # fields of rows that have no mean of their own
SWEPT = ("epe", "epe_share", "motion_ratio", "flow_motion_ratio", "warping_error")


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    add = result.add_argument
    video_bench.add_video_bench_arguments(result, 100, leave_out=("motion_bucket_id",))
    add_sampling_arguments(result, FlowSampling, leave_out=("flow_first", "flow_strength"))
    add("--adapter", help="file or folder of train_flow_video.py (default: none, and no tasks that need it)")
    lora = (
        "file or folder of train_svd_flow.py, or of train_flow_video.py with --flow_alone_share above 0, for the task "
        "svd_flow; or of train_svd_flow.py --objective one_step for one_step"
    )
    add("--flow_lora", help=f"{lora} (default: none)")
    protocol.add_choice_argument(result, TASKS, default="all that the weights allow, but for sweep")
    add("--num_swept", type=positive_int, default=25, help="clips of the task sweep")
    add("--joint_guidance_scales", type=float, nargs="+", default=list(SCALES), help="scales of the task sweep")
    return result


def chosen(args: argparse.Namespace) -> list[str]:
    """The tasks to measure: --tasks, or those that the weights allow."""
    if args.tasks:
        return args.tasks
    left_out = {"sweep", *LORA_TASKS.values()} - ({lora_task(args.flow_lora)} if args.flow_lora else set())
    if not args.adapter:
        left_out |= set(NEED_ADAPTER)
    elif not video_bench.samples_flow_alone(args.adapter):
        left_out |= {"flow_first"}
    return [task for task in TASKS if task not in left_out]


def lora_task(path: str) -> str:
    """The task that a LoRA of `train_svd_flow.py` was trained for."""
    return LORA_TASKS[read_training(path).get("objective", DENOISING)]


def check(args: argparse.Namespace) -> None:
    """Raises one sentence about what would fail after models are loaded."""
    video_bench.check_video(args)
    FlowSampling.from_args(args)
    protocol.check_count(args, "num_frames", 2)
    if args.adapter:
        video_bench.check_flow_adapter(args.adapter)
    if args.flow_lora:
        check_flow_lora(args.flow_lora)
    check_tasks(args, chosen(args))


def check_flow_lora(path: str) -> None:
    """Raises one sentence for weights that neither sample flow by itself nor estimate it."""
    if not (is_lora(path) and lora_task(path) == LORA_TASKS[ONE_STEP]):
        FlowAdapter.alone(path, "--flow_lora")


def check_tasks(args: argparse.Namespace, tasks: list[str]) -> None:
    if set(NEED_ADAPTER) & set(tasks) and not args.adapter:
        raise ValueError(f"--tasks {' '.join(tasks)} need --adapter, a joint adapter of train_flow_video.py.")
    for objective, task in LORA_TASKS.items():
        if task in tasks and not (args.flow_lora and lora_task(args.flow_lora) == task):
            raise ValueError(f"--tasks {task} needs --flow_lora, a LoRA of train_svd_flow.py --objective {objective}.")
    if "flow_first" in tasks and not video_bench.samples_flow_alone(args.adapter):
        raise ValueError(f"--tasks flow_first needs an adapter trained with --flow_alone_share, not {args.adapter}.")
    if set(tasks) - {"truth", "other"}:
        video_bench.check_base(args)
        video_bench.check_buckets(args)
    if "sweep" in tasks:
        protocol.check_part(args, "num_swept", "num_clips")


def files(args: argparse.Namespace) -> dict[str, list[Path]]:
    return {
        "model_hash": video_bench.base_files(args.model_dir),
        "adapter_hash": protocol.weight_files(args.adapter),
        "way_hash": [Path(backward_flow.__file__)],
        "lora_hash": protocol.weight_files(args.flow_lora),
    }


def count(settings: dict, task: str) -> int:
    if task == "sweep":
        return settings["num_swept"] * len(settings["joint_guidance_scales"])
    return settings["num_clips"]


def summarize(results: protocol.Results, args: argparse.Namespace) -> protocol.Estimates:
    """Means of each task; of the sweep at each scale."""
    estimates = {task: means(rows) for task, rows in results.rows.items() if task != "sweep"}
    if "sweep" in results.rows:
        estimates["sweep"] = sweep_means(results.rows["sweep"], results.settings["joint_guidance_scales"])
    return estimates


def means(rows: list[dict]) -> dict[str, Estimate]:
    """Means over clips, and ratios of means: shares are errors over motion, so that a still video has no small one."""
    values = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    found = {name: bootstrap_mean(value) for name, value in values.items() if name not in PARTS}
    found["edge_distance"] = bootstrap_mean(values["edge_moment"], np.maximum(values["edge_weight"], 1e-6))
    found["epe_true_share"] = bootstrap_mean(values["epe_true"], values["exact_motion"])
    found["flow_motion_ratio"] = bootstrap_mean(values["flow_motion"], values["exact_motion"])
    if "epe" in values:
        found["epe_share"] = bootstrap_mean(values["epe"], np.maximum(values["motion"], 1e-6))
        found["motion_ratio"] = bootstrap_mean(values["motion"], values["true_motion"])
    return found


def sweep_means(rows: list[dict], scales: list[float]) -> dict[str, Estimate]:
    found = {}
    for scale in scales:
        some = means([row for row in rows if row["scale"] == scale])
        found |= {f"{name}_at_{scale:g}": some[name] for name in SWEPT}
    return found


EVALUATION = protocol.Evaluation(
    "eval_flow_video", parser, lambda args: TASKS, flow_video_tasks.FlowBench, check, files, summarize,
    count=count, chosen=chosen,
)  # fmt: skip
main = partial(protocol.run, EVALUATION)

if __name__ == "__main__":
    run_script(main)
