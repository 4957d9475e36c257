"""Measure how well videos follow dragged points, on scenes of the procedural world that no training has seen.

python -m benchmarks.eval_trajectory --methods truth autoencoder still none warp moved --output_dir outputs/drags
python -m benchmarks.eval_trajectory --methods coarse guided --adapter outputs/flow_video --output_dir outputs/drags
python -m benchmarks.eval_trajectory --methods controlnet --controlnet outputs/trajectory --output_dir outputs/drags
python -m benchmarks.eval_trajectory --methods coarse --name coarse_04 --flow_strength 0.4 … --output_dir outputs/drags

Methods are added to a folder one by one, each with its own settings in a folder of its name; a run that was stopped
goes on when it is started again. Prints a table of all complete methods and writes results.md, results.json and
results.png (wanted paths green, obtained ones red). docs/evaluation_flow_video.md has the protocol.
"""

import argparse
from functools import partial
from pathlib import Path

from benchmarks import protocol, video_bench
from benchmarks.trajectory_methods import METHODS, DragBench
from benchmarks.trajectory_score import summarize
from models.svd_controlnet import ControlNetSVD
from pipelines.pipeline_trajectory import INTERPOLATIONS
from pipelines.steering import Steering
from utils.arguments import make_parser, positive_float, run_script
from utils.diffusion.sampling import FlowSampling, VideoSampling, add_sampling_arguments
from utils.flow import backward_flow
from utils.tracks import guess, heuristic_flow
from utils.weights.model_kinds import check_network

SCENES = ("num_scenes", "first_seed", "num_frames", "resolution", "judge_hash")  # equal for all methods of a folder
BASE_SETTINGS = ("fps", "seed", "dtype", "model_hash")
SAMPLING_SETTINGS = (
    *BASE_SETTINGS,
    *(name for name in VideoSampling.names() if name not in ("fps", "motion_bucket_id")),
)
FLOW_FLAGS = tuple(name for name in FlowSampling.names() if name != "flow_strength")
FLOW_SETTINGS = (*SAMPLING_SETTINGS, "adapter_hash", "way_hash", "reach", *FLOW_FLAGS)
DECIDES = {  # what a method's videos depend on
    "truth": (),
    "autoencoder": BASE_SETTINGS,
    "still": (),
    "none": SAMPLING_SETTINGS,
    "warp": ("reach",),
    "moved": ("guess_hash",),
    "coarse": (*FLOW_SETTINGS, "flow_strength", "interpolation", "guess_hash"),
    "guided": (*FLOW_SETTINGS, *Steering.names()),
    "controlnet": (*SAMPLING_SETTINGS, "controlnet_hash", "conditioning_scale", "guess_hash"),
}
READ_BY = {  # flags that few methods read
    flag: [method for method, names in DECIDES.items() if flag in names]
    for flag in (
        *FLOW_FLAGS, "reach", "flow_strength", "interpolation", *Steering.names(), "conditioning_scale",
    )
}  # fmt: skip
WEIGHTS = {"adapter": {"coarse", "guided"}, "controlnet": {"controlnet"}}


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    add = result.add_argument
    video_bench.add_video_bench_arguments(result, 100, things="scenes", leave_out=("motion_bucket_id",))
    add("--adapter", help="file or folder of train_flow_video.py, for coarse and guided (default: none)")
    add("--controlnet", help="folder of train_trajectory.py, for controlnet (default: none)")
    protocol.add_judges_argument(result)
    add("--methods", nargs="+", choices=METHODS, required=True, help="methods to measure")
    add("--name", help="folder of the results of a single method (default: its name)")
    add_sampling_arguments(result, FlowSampling, flow_strength=0.0)
    add_method_arguments(result)
    return result


def add_method_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    reach = "pixels over which a drag falls off, for warp, guided, and coarse with --interpolation distance"
    add("--reach", type=positive_float, help=f"{reach} (default: 1/8 of the side)")
    add(
        "--interpolation",
        choices=INTERPOLATIONS,
        default="edge_aware",
        help="how --methods coarse interpolates the drags to dense flow",
    )
    add_sampling_arguments(parser, Steering)
    add("--conditioning_scale", type=float, default=1.0, help="scale of the ControlNet's residuals")


def check(args: argparse.Namespace) -> None:
    """Raises one sentence about what would fail after models are loaded."""
    video_bench.check_video(args)
    FlowSampling.from_args(args)
    Steering.from_args(args)
    protocol.check_name(args.name, args.methods, METHODS, "--methods")
    protocol.check_judges(args.judges_dir, ["video"])
    protocol.check_count(args, "num_frames", 2)
    protocol.check_count(args, "num_scenes", 2)
    for flag, methods in WEIGHTS.items():
        path = getattr(args, flag)
        if methods & set(args.methods) and (path is None or not Path(path).exists()):
            raise FileNotFoundError(
                f"--methods {' '.join(args.methods)} need --{flag}, a path that exists, not {path}."
            )
    if args.adapter:
        video_bench.check_flow_adapter(args.adapter)
    if args.controlnet:
        check_network(args.controlnet, ControlNetSVD, "--controlnet")
    if any(set(BASE_SETTINGS) <= set(DECIDES[method]) for method in args.methods):
        video_bench.check_base(args)
    if set(args.methods) & {"none", "coarse", "guided", "controlnet"}:
        video_bench.check_buckets(args)
    check_flags(args)


def check_flags(args: argparse.Namespace) -> None:
    """Raises ValueError for a flag that no method reads as it is asked for, or that the adapter cannot do."""
    defaults = parser()
    for flag, methods in READ_BY.items():
        if getattr(args, flag) != defaults.get_default(flag) and not set(methods) & set(args.methods):
            raise ValueError(f"--{flag} applies to --methods {', '.join(methods)}: add one of them or leave it out.")
    if args.reach is not None and args.interpolation == "edge_aware" and not {"warp", "guided"} & set(args.methods):
        raise ValueError(f"--reach {args.reach:g} does not apply to --interpolation edge_aware: leave it out.")
    known = "coarse" in args.methods and args.flow_strength == 0
    if args.flow_guidance_scale is not None and (known or args.flow_first is False):
        raise ValueError(
            f"--flow_guidance_scale {args.flow_guidance_scale:g} applies to flow that is sampled before its video, "
            "not to coarse with --flow_strength 0 and not with --no-flow_first: leave it out."
        )
    if args.flow_first and known:
        raise ValueError("--flow_first needs a flow that is not known: raise --flow_strength or leave it out.")
    needs_first = args.flow_first or args.flow_guidance_scale is not None
    if needs_first and args.adapter and not video_bench.samples_flow_alone(args.adapter):
        raise ValueError(
            f"--adapter {args.adapter} was trained without --flow_alone_share: leave out --flow_first and "
            "--flow_guidance_scale."
        )


def tasks(args: argparse.Namespace) -> dict[str, protocol.Task]:
    return {method: partial(DragBench.measure, method=method) for method in METHODS}


def files(args: argparse.Namespace) -> dict[str, list[Path]]:
    return {
        "judge_hash": protocol.judge_files(args.judges_dir, ["video"]),
        "model_hash": video_bench.base_files(args.model_dir),
        "adapter_hash": protocol.weight_files(args.adapter),
        "controlnet_hash": protocol.weight_files(args.controlnet),
        "way_hash": [Path(backward_flow.__file__)],
        "guess_hash": [Path(heuristic_flow.__file__), Path(guess.__file__)],
    }


EVALUATION = protocol.Evaluation(
    "eval_trajectory", parser, tasks, DragBench, check, files, lambda results, args: summarize(results.rows),
    count=lambda settings, task: settings["num_scenes"], chosen=lambda args: args.methods,
    decides=DECIDES, shared=SCENES,
)  # fmt: skip
main = partial(protocol.run, EVALUATION)

if __name__ == "__main__":
    run_script(main)
