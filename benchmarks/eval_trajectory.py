"""Measure how well videos follow dragged points, on scenes of the procedural world that no training has seen.

python -m benchmarks.eval_trajectory --methods truth autoencoder still none warp moved --output_dir outputs/eval_trajectory
python -m benchmarks.eval_trajectory --methods coarse guided --adapter outputs/flow_video --output_dir outputs/eval_trajectory
python -m benchmarks.eval_trajectory --methods controlnet --controlnet outputs/trajectory --output_dir outputs/eval_trajectory
python -m benchmarks.eval_trajectory --methods coarse --name coarse_04 --flow_strength 0.4 --adapter … --output_dir outputs/eval_trajectory

Methods are added to a folder one by one, each with its own settings in a folder of its name; a run that was stopped goes on when it is
started again. Prints a table of all that is complete and writes it as results.md, with results.json and results.png (wanted paths
green, obtained ones red). The protocol is in docs/evaluation_flow_video.md.
"""

import argparse
import json
from dataclasses import asdict
from functools import partial
from pathlib import Path

from benchmarks.chunks import digest, open_folder, run_in_chunks
from benchmarks.eval_depth_image import stack_pictures, write_text
from benchmarks.svd_report import table_lines
from benchmarks.svd_tasks import model_files
from benchmarks.trajectory_methods import METHODS, DragBench
from benchmarks.trajectory_score import summarize
from pipelines.pipeline_trajectory import INTERPOLATIONS
from pipelines.steering import GUIDANCES, Guidance
from utils.arguments import parse_args, positive_float, positive_int, run_script
from utils.diffusion.sampling import FlowSampling, VideoSampling, add_sampling_arguments
from utils.flow import backward_flow
from utils.motion_helper import buckets_file
from utils.pretrained import check_device
from utils.scenes import UNSEEN, check_unseen
from utils.tracks import guess, heuristic_flow

REPOSITORY = Path(__file__).resolve().parent.parent
SCENES = ("num_scenes", "first_seed", "num_frames", "resolution", "judge_hash")  # equal for all methods of a folder
OF_BASE = ("fps", "seed", "dtype", "model_hash")
OF_SAMPLING = (
    *OF_BASE, "num_inference_steps", "solver_order", "min_guidance_scale", "max_guidance_scale", "noise_aug_strength",
    "negative_motion_bucket_id",
)  # fmt: skip
OF_FLOW = (
    *OF_SAMPLING,
    "adapter_hash",
    "way_hash",
    "reach",
    "joint_guidance_scale",
    "flow_first",
    "flow_solver_order",
    "flow_guidance_scale",
)
DECIDES = {  # what a method's videos depend on
    "truth": (),
    "autoencoder": OF_BASE,
    "still": (),
    "none": OF_SAMPLING,
    "warp": ("reach",),
    "moved": ("guess_hash",),
    "coarse": (*OF_FLOW, "flow_strength", "interpolation", "guess_hash"),
    "guided": (*OF_FLOW, "guidance", "guidance_strength", "guidance_steps", "guidance_iterations"),
    "controlnet": (*OF_SAMPLING, "controlnet_hash", "conditioning_scale", "guess_hash"),
}


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add, guidance = result.add_argument, Guidance()
    add("--model_dir", default=str(REPOSITORY / "weights/tiny_svd"), help="the base, a folder")
    add("--adapter", help="of coarse and guided: file or folder of train_flow_video.py")
    add("--controlnet", help="of controlnet: folder of train_trajectory.py")
    add("--judges_dir", default=str(REPOSITORY / "weights/judges"))
    add("--methods", nargs="+", choices=METHODS, required=True)
    add("--name", help="of a single method's results, by default the method's")
    add("--num_scenes", type=positive_int, default=100)
    add("--first_seed", type=int, default=UNSEEN, help="of the scenes; take others to choose settings by")
    add("--num_frames", type=positive_int, default=8)
    add("--resolution", type=positive_int, default=64)
    add("--batch_size", type=positive_int, default=5)
    add_sampling_arguments(result, leave_out=("motion_bucket_id",), fps=8.0)
    add_sampling_arguments(result, FlowSampling, flow_strength=0.0)
    add(
        "--reach",
        type=positive_float,
        help="of warp, and of coarse with --interpolation distance: pixels; by default 1/8 of the side",
    )
    add("--interpolation", choices=INTERPOLATIONS, default="edge_aware", help="of coarse")
    add("--guidance", choices=GUIDANCES, default=guidance.kind, help="of guided")
    add("--guidance_strength", type=float, default=guidance.strength, help="of guided")
    add("--guidance_steps", type=float, default=guidance.steps, help="of guided")
    add("--guidance_iterations", type=positive_int, default=guidance.iterations, help="of guided")
    add("--conditioning_scale", type=float, default=1.0, help="of controlnet")
    add("--seed", type=int, default=0, help="of the noise")
    add("--cache_dir", default="cache", help="folder of all caches; holds the scenes")
    add("--output_dir", required=True)
    add("--overwrite", action="store_true", help="drop what the folder of a method holds of other settings")
    add("--device", default="cpu")
    add("--dtype", choices=("float32", "float16", "bfloat16"), default="float32")
    return result


def main(argv=None) -> Path:
    """Runs the command and returns the folder of its results."""
    args = parse_args(parser(), argv)
    check(args)
    folder = Path(args.output_dir)
    hashes = weight_hashes(args)
    check_scenes(folder, args, hashes)
    bench = DragBench(args)
    for method in args.methods:
        place = folder / (args.name or method)
        open_folder(place, settings(args, method, hashes), args.overwrite)
        run_in_chunks(place, method, args.num_scenes, args.batch_size, partial(bench.measure, method))
    report(folder)
    return folder


def check(args) -> None:
    """Raises one sentence about what would fail after a long time."""
    VideoSampling.from_args(args)
    FlowSampling.from_args(args)
    check_device(args.device)
    check_unseen(args.first_seed)
    if args.name and (len(args.methods) > 1 or Path(args.name).name != args.name):
        raise ValueError(f"--name {args.name} is a plain word for one method: pass one of --methods with it.")
    if args.name in METHODS and args.name != args.methods[0]:
        raise ValueError(f"--name {args.name} is that of another method than {args.methods[0]}: choose a new word.")
    for name, methods in (("adapter", {"coarse", "guided"}), ("controlnet", {"controlnet"})):
        path = getattr(args, name)
        if methods & set(args.methods) and (path is None or not Path(path).exists()):
            raise FileNotFoundError(
                f"--methods {' '.join(args.methods)} need --{name}, a path that exists, not {path}."
            )
    if set(args.methods) - {"truth", "still", "warp", "moved"} and not (path := buckets_file(args.model_dir)).is_file():
        raise FileNotFoundError(
            f"There is no base, or no map of motion, {path}: fit one with utils.fit_motion_buckets."
        )
    if not (judge := Path(args.judges_dir, "video.safetensors")).is_file():
        raise FileNotFoundError(f"There is no judge {judge}; train one with train_models/train_judges.py.")
    if args.num_frames < 2 or args.num_scenes < 2:
        raise ValueError(f"--num_frames {args.num_frames} and --num_scenes {args.num_scenes} have to be 2 at least.")
    if not 0 <= args.flow_strength <= 1:
        raise ValueError(f"--flow_strength {args.flow_strength} is not between 0 and 1.")
    Guidance(args.guidance, args.guidance_strength, args.guidance_steps, args.guidance_iterations)


def weight_hashes(args) -> dict[str, str]:
    """Of the files behind the results."""
    return {
        "judge_hash": digest([Path(args.judges_dir, "video.safetensors")]),
        "model_hash": digest([*model_files(args.model_dir), *filter(Path.is_file, [buckets_file(args.model_dir)])]),
        "adapter_hash": digest(files_of(args.adapter)),
        "controlnet_hash": digest(files_of(args.controlnet)),
        "way_hash": digest([Path(backward_flow.__file__)]),
        "guess_hash": digest([Path(heuristic_flow.__file__), Path(guess.__file__)]),
    }


def files_of(path: str | None) -> list[Path]:
    """Weights and configurations at a path, that of a file or a folder."""
    if path is None or Path(path).is_file():
        return [Path(path)] if path else []
    return [*Path(path).glob("*.safetensors"), *Path(path).glob("config.json")]


def settings(args, method: str, hashes: dict[str, str]) -> dict:
    """What decides the rows of a method, and their division into files."""
    values = vars(args) | hashes
    return {"method": method} | {name: values[name] for name in (*SCENES, "batch_size", *DECIDES[method])}


def check_scenes(folder: Path, args, hashes: dict[str, str]) -> None:
    """Raises FileExistsError where the folder holds methods of other scenes, with which none would compare."""
    asked = vars(args) | hashes
    for path in sorted(folder.glob("*/settings.json")):
        held = json.loads(path.read_text())
        for name in SCENES:
            if held[name] != asked[name]:
                raise FileExistsError(
                    f"{path.parent} was measured with {name} {held[name]!r}, not {asked[name]!r}: choose another --output_dir."
                )


def report(folder: Path) -> None:
    """Table, JSON and pictures of all methods that are complete in a folder."""
    rows, held = read_rows(folder)
    estimates = summarize(rows)
    table = "\n".join(table_lines(estimates))
    results = {name: {key: asdict(value) for key, value in found.items()} for name, found in estimates.items()}
    write_text(folder / "results.json", json.dumps({"settings": held, "results": results}, indent=2) + "\n")
    write_text(folder / "results.md", table + "\n")
    stack_pictures(folder, {name: folder / name / "partial" / held[name]["method"] / "picture.png" for name in rows})
    print(f"{table}\n\n{folder.resolve()}")


def read_rows(folder: Path) -> tuple[dict[str, list[dict]], dict[str, dict]]:
    """Rows and settings of all methods that are complete, by name, in the order of `METHODS`."""
    held = {path.parent.name: json.loads(path.read_text()) for path in sorted(folder.glob("*/settings.json"))}
    rows = {}
    for name in sorted(held, key=lambda name: list(METHODS).index(held[name]["method"])):
        parts = sorted((folder / name / "partial" / held[name]["method"]).glob("*.json"))
        found = [row for part in parts for row in json.loads(part.read_text())]
        if len(found) == held[name]["num_scenes"]:
            rows[name] = found
    return rows, held


if __name__ == "__main__":
    run_script(main)
