"""Samples a video that begins with an image and follows dragged points, by Stable Video Diffusion.

python run_models/run_trajectory.py --input_image photo.png --tracks tracks.json --output_dir outputs/drag
python run_models/run_trajectory.py --method controlnet --input_image photo.png --tracks tracks.npy --output_dir …
python run_models/run_trajectory.py --method guided --adapter outputs/flow_video --input_image a.png --tracks a.json …

Writes video.mp4, tracks.png (wanted paths in green and those that optical flow finds in the video in red), flow_000.flo
and on, one for each step, flow.png, flow.mp4 and run.json. The flow is that which the video follows, guessed or
sampled, or with a ControlNet estimated from the video.
"""

import argparse
from pathlib import Path

import torch

from pipelines.drags import (
    DEFAULT_METHOD,
    METHODS,
    check_drag_speed,
    check_drag_weights,
    load_drag_pipeline,
    path_errors,
    sample_drag,
    write_drag,
)
from pipelines.pipeline_trajectory import INTERPOLATIONS
from pipelines.sizes import fit_image
from pipelines.steering import Steering
from pipelines.video_commands import (
    add_base_argument,
    add_result_arguments,
    add_video_sampling,
    check_video_base,
    check_video_run,
)
from utils.arguments import check_choice, check_needs, filled, finite_float, make_parser, positive_float, run_script
from utils.commands.results import RECORD, Run, remove_last_run
from utils.diffusion.sampling import (
    FlowSampling,
    VideoSampling,
    add_sampling_arguments,
    model_sampling,
    parse_sampling_args,
)
from utils.images import image_size, read_image
from utils.messages.words import count
from utils.pretrained import shipped
from utils.tracks.files import LAYOUTS, read_track_file
from utils.tracks.found import find_paths
from utils.weights.embedded import warn_of_photograph

JOINT = ("coarse", "guided")
READ_BY = {  # flags that not every method reads
    "adapter": JOINT,
    "controlnet": ("controlnet",),
    "interpolation": ("coarse",),
    "reach": JOINT,
    "radius": JOINT,
    **{name: JOINT for name in FlowSampling.names() if name != "flow_strength"},
    "flow_strength": ("coarse",),
    **dict.fromkeys(Steering.names(), ("guided",)),
    "gradient_checkpointing": ("guided",),
    "conditioning_scale": ("controlnet",),
}
NEEDED = (  # flags, whether what they need is there, and what that is
    (("tracks_layout",), lambda args: Path(args.tracks).suffix.lower() == ".npy", "--tracks of an .npy"),
    (
        ("flow_solver_order",),
        lambda args: args.method != "coarse" or (args.flow_strength or 0) > 0,
        "--flow_strength above 0",
    ),
)


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    add = result.add_argument_group("inputs").add_argument
    add("--input_image", type=filled, required=True, help="first frame")
    text = ".json (docs/trajectory.md), or .npy (N, F, 2) in pixels of the input image"
    add("--tracks", type=filled, required=True, help=text)
    layouts = "whether an .npy has the two corners of a box before its points (box)"
    add("--tracks_layout", choices=LAYOUTS, default="points", help=layouts)
    add("--method", choices=METHODS, default=DEFAULT_METHOD, help="how the tracks are followed")
    group = result.add_argument_group("weights")
    add_base_argument(group)
    add = group.add_argument
    adapter = "joint adapter of train_flow_video.py, for --method coarse and guided"
    add("--adapter", type=filled, default=shipped("flow_video"), help=adapter)
    net = "folder of train_trajectory.py, for --method controlnet"
    add("--controlnet", type=filled, default=shipped("trajectory"), help=net)
    _add_methods(result.add_argument_group("method"))
    add_video_sampling(result)
    add_result_arguments(result)
    return result


def _add_methods(group) -> None:
    add = group.add_argument
    moved = "what moves with a point under --method coarse: what looks alike around it, or all that is near"
    add("--interpolation", choices=INTERPOLATIONS, default="edge_aware", help=moved)
    reach = "pixels over which a drag falls off, for --interpolation distance, and guided under a moving camera"
    add("--reach", type=positive_float, help=f"{reach} (default: 1/8 of the shorter side)")
    radius = "pixels around a point that move as it does, for --method coarse and guided"
    add("--radius", type=positive_float, help=f"{radius} (default: 1/16 of the shorter side)")
    add_sampling_arguments(group, FlowSampling, flow_strength=0.0)
    add_sampling_arguments(group, Steering)
    add("--gradient_checkpointing", action="store_true", help="less memory and more time for --method guided")
    scale = "strength of the ControlNet; with 0 the base has the warped image alone"
    add("--conditioning_scale", type=finite_float, default=1.0, help=scale)


def main(argv=None) -> list[Path]:
    """Runs the script and returns the files."""
    args = read_args(argv)
    weights, folder = weights_of(args), Path(args.output_dir)
    run = Run.start(argv, vars(args), [args.model_dir, weights])
    file = read_track_file(args.tracks, *image_size(args.input_image), args.tracks_layout)
    pipe = load_drag_pipeline(
        args.model_dir, args.method, weights, args.device, args.dtype, args.gradient_checkpointing
    )
    image = fit_image(pipe, read_image(args.input_image), args.height, args.width, args.input_image)
    warn_of_photograph(args.model_dir, image, args.input_image, "--model_dir")
    H, W = image.shape[-2:]
    tracks = file.on_video(args.num_frames or pipe.unet.config.num_frames, W, H)
    video, flow = sample_drag(pipe, image, tracks, args.method, **options(args))
    found = find_paths(video, tracks.points[0])
    files = write_drag(folder, video, flow, image, tracks, found, args.fps)
    remove_last_run(folder, kept=files)
    errors = path_errors(tracks, found)
    run.write(folder / RECORD, files, frames=len(video), height=H, width=W, path_errors=errors)
    print(f"Written: video.mp4, tracks.png and {count(len(flow), 'flow')} in {folder}")
    for name, (number, error) in errors.items():
        points = count(number, f"{name} point")
        print(f"Found in the video by optical flow: {points}, {error:.2f} pixels from the wanted path on average.")
    return files


def read_args(argv=None) -> argparse.Namespace:
    """Arguments, checked, with the defaults of the adapter or ControlNet that the method takes."""
    args = parse_sampling_args(parser(), argv, own_sampling)
    check(args)
    return args


def own_sampling(args) -> dict:
    return model_sampling(weights_of(args))


def weights_of(args) -> str:
    return args.controlnet if args.method == "controlnet" else args.adapter


def check(args) -> None:
    """One sentence about what would fail after a long time."""
    check_choice(parser(), args, "method", {}, READ_BY)
    check_needs(parser(), args, NEEDED)
    check_video_run(args, [args.input_image, args.tracks])
    FlowSampling.from_args(args)
    Steering.from_args(args)
    given = args.method == "coarse" and args.flow_strength == 0
    if args.flow_guidance_scale is not None and (given or args.flow_first is False):
        scale = f"--flow_guidance_scale {args.flow_guidance_scale:g}"
        raise ValueError(f"{scale} applies to flow that is sampled before its video: remove it or change that.")
    if given and args.flow_first:
        raise ValueError("--flow_first applies to flow that is sampled: remove it, or pass --flow_strength above 0.")
    if args.method == "coarse" and args.interpolation == "edge_aware" and args.reach is not None:
        raise ValueError(f"--reach {args.reach:g} applies to --interpolation distance: remove it or change that.")
    check_motion(args)


def check_motion(args) -> None:
    """Raises one sentence for weights of another kind, and for tracks that they or the image do not allow."""
    weights, size = weights_of(args), image_size(args.input_image)
    check_drag_weights(args.method, weights)
    layout = check_video_base(args, [args.input_image])
    file = read_track_file(args.tracks, *size, args.tracks_layout)
    if args.method == "guided" and args.reach is not None and file.camera is None:
        raise ValueError(f"--reach {args.reach:g} applies to a camera, and {args.tracks} has none: remove it.")
    H, W = layout.target_size(args.height, args.width, size[::-1])
    check_drag_speed(args.method, weights, file.on_video(args.num_frames or layout.num_frames, W, H))


def options(args) -> dict:
    """Arguments of the pipeline's call."""
    result = VideoSampling.from_args(args).options() | {"generator": torch.Generator().manual_seed(args.seed)}
    result |= {"decode_chunk_size": args.decode_chunk_size}
    if args.method == "controlnet":
        return result | {"controlnet_conditioning_scale": args.conditioning_scale}
    strength = args.flow_strength if args.method == "coarse" else None
    result |= FlowSampling.from_args(args, flow_strength=strength).options() | Steering.from_args(args).options()
    return result | {name: getattr(args, name) for name in ("interpolation", "reach", "radius")}


if __name__ == "__main__":
    run_script(main)
