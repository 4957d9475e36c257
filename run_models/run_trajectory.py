"""Draws a video that begins with a picture and follows dragged points, by Stable Video Diffusion.

python run_models/run_trajectory.py --input_image photo.png --tracks tracks.json --output_dir outputs/drag
python run_models/run_trajectory.py --controlnet outputs/trajectory --model_dir … --input_image photo.png --tracks tracks.npy --output_dir …
python run_models/run_trajectory.py --method guided --adapter outputs/flow_video --input_image photo.png --tracks tracks.json --output_dir …

Writes video.mp4, tracks.png (wanted paths in green and those that the flow goes in red, over the first frame and over each), flow_000.flo
and on, one for each step, flow.png and flow.mp4. The flow is what was drawn with the video, or estimated from it with a ControlNet.
"""

import argparse
from pathlib import Path

import torch

from pipelines.pipeline_trajectory import INTERPOLATIONS, StableVideoDiffusionTrajectoryPipeline
from pipelines.pipeline_trajectory import METHODS as JOINT_METHODS
from pipelines.pipeline_trajectory_controlnet import StableVideoDiffusionTrajectoryControlNetPipeline
from pipelines.sizes import check_num_frames, fit_image
from pipelines.steering import Steering
from utils.arguments import parse_args, positive_float, positive_int, run_script
from utils.diffusion.sampling import FlowSampling, VideoSampling, add_sampling_arguments
from utils.files import replacing
from utils.flow.estimate import estimate_flow
from utils.flow.results import write_flow_results
from utils.images import image_size, read_image
from utils.metrics.trajectory import follow_flow
from utils.pretrained import DTYPES, check_device, loading
from utils.processes import process_state
from utils.results import check_output_dir
from utils.tracks import Tracks
from utils.tracks.drawing import track_sheet
from utils.tracks.files import LAYOUTS, read_track_file
from utils.video import write_video

REPOSITORY = Path(__file__).resolve().parent.parent
READ_BY = {  # options that not every method reads
    "interpolation": ("coarse",),
    "flow_first": ("coarse", "guided"),
    "flow_solver_order": ("coarse", "guided"),
    "flow_guidance_scale": ("coarse", "guided"),
    "reach": ("coarse", "guided"),
    "radius": ("coarse", "guided"),
    "joint_guidance_scale": ("coarse", "guided"),
    "flow_strength": ("coarse",),
    "guidance": ("guided",),
    "guidance_strength": ("guided",),
    "guidance_steps": ("guided",),
    "guidance_iterations": ("guided",),
    "gradient_checkpointing": ("guided",),
    "conditioning_scale": ("controlnet",),
}
OF_JOINT = ("interpolation", "reach", "radius")  # options that are arguments of the pipeline
FOR_DIS = 128  # shorter side that the flow of a small video is estimated at: DIS loses small things in small pictures
METHODS = {**dict.fromkeys(JOINT_METHODS, "adapter"), "controlnet": "controlnet"}  # whose weights each needs
DEFAULTS = {"adapter": "weights/flow_video", "controlnet": "weights/trajectory"}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_file_arguments(parser.add_argument_group("files and machine"))
    add_track_arguments(parser.add_argument_group("how tracks are followed"))
    group = parser.add_argument_group("sampling")
    add_sampling_arguments(group)
    add_sampling_arguments(group, FlowSampling, flow_strength=0.0)
    add = group.add_argument
    add("--seed", type=int, default=0)
    add(
        "--num_frames", type=positive_int, help="by default the model's; tracks of another length are resampled in time"
    )
    add("--height", type=positive_int)
    add("--width", type=positive_int, help="by default the picture's shape at the model's number of pixels")
    add("--decode_chunk_size", type=positive_int, help="frames decoded at once; by default all")
    return parser


def add_file_arguments(group) -> None:
    add = group.add_argument
    add("--model_dir", default=str(REPOSITORY / "weights/tiny_svd"), help="folder or hub name of the base")
    add(
        "--adapter",
        help="of coarse and guided: file or folder of train_flow_video.py; by default that of the default base",
    )
    add("--controlnet", help="of controlnet: folder of train_trajectory.py; by default that of the default base")
    add("--input_image", required=True)
    add("--tracks", required=True, help=".json (docs/trajectory.md) or .npy (N, F, 2), in pixels of the input picture")
    add(
        "--tracks_layout",
        choices=LAYOUTS,
        default="points",
        help="of .npy: whether corners of a box come before the points",
    )
    add("--output_dir", required=True)
    add("--overwrite", action="store_true", help="accept an output_dir with content")
    add("--device", help="by default the one that Accelerate gives to the process")
    add("--dtype", choices=DTYPES, default="float32")


def add_track_arguments(group) -> None:
    add = group.add_argument
    add("--method", choices=METHODS, default="controlnet")
    add(
        "--interpolation",
        choices=INTERPOLATIONS,
        default="edge_aware",
        help="of coarse: whether what looks alike around a point moves with it, or all that is near",
    )
    add(
        "--reach",
        type=positive_float,
        help="of --interpolation distance, and of guided under a camera: pixels of the video over which a drag falls off; by default 1/8 of its shorter side",
    )
    add(
        "--radius",
        type=positive_float,
        help="of coarse and guided: pixels around a point that move as it does; by default 1/16 of the shorter side",
    )
    add_sampling_arguments(group, Steering)
    add(
        "--conditioning_scale",
        type=float,
        default=1.0,
        help="of controlnet: how strongly it acts; with 0 the base has the moved picture alone",
    )
    add("--gradient_checkpointing", action="store_true", help="of guided: less memory for the gradient, and more time")


def main(argv=None) -> list[Path]:
    """Runs the script and returns the files."""
    args = parse_args(make_parser(), argv)
    check(args)
    file = read_track_file(args.tracks, *image_size(args.input_image), args.tracks_layout)
    pipe = load_pipeline(args)
    pixels = fit_image(pipe, read_image(args.input_image), args.height, args.width, args.input_image)
    H, W = pixels.shape[-2:]
    tracks = file.on_video(args.num_frames or pipe.unet.config.num_frames, W, H)
    video, flow = draw(args, pipe, pixels[None], tracks)
    given = args.method == "coarse" and args.flow_strength == 0
    return write_results(Path(args.output_dir), video, flow, pixels, tracks, args.fps, given)


def draw(args, pipe, image: torch.Tensor, tracks: Tracks) -> tuple[torch.Tensor, torch.Tensor]:
    """The video (F, 3, H, W) in [-1, 1], and its flow (F - 1, 2, H, W), drawn or estimated."""
    options = VideoSampling.from_args(args).options() | {"generator": torch.Generator().manual_seed(args.seed)}
    options |= {"decode_chunk_size": args.decode_chunk_size, "output_type": "pt"}
    if args.method == "controlnet":
        video = pipe(image, tracks, conditioning_scale=args.conditioning_scale, **options).frames[0] * 2 - 1
        scale = max(1.0, FOR_DIS / min(video.shape[-2:]))
        return video, estimate_flow(video, inference_size=tuple(round(scale * side) for side in video.shape[-2:]))
    strength = args.flow_strength if args.method == "coarse" else None
    options |= FlowSampling.from_args(args, flow_strength=strength).options()
    options |= Steering.from_args(args).options() | {name: getattr(args, name) for name in OF_JOINT}
    out = pipe(image, tracks, args.method, **options)
    return out.frames[0] * 2 - 1, out.flows[0]


def check(args) -> None:
    """One sentence about what would fail after a long time."""
    VideoSampling.from_args(args)
    FlowSampling.from_args(args)
    Steering.from_args(args)
    check_num_frames(args.num_frames)
    check_output_dir(args.output_dir, args.overwrite)
    image_size(args.input_image)
    if getattr(args, METHODS[args.method]) is None:
        setattr(args, METHODS[args.method], str(REPOSITORY / DEFAULTS[METHODS[args.method]]))
    for name in set(METHODS.values()):
        if (getattr(args, name) is not None) != (name == METHODS[args.method]):
            raise ValueError(f"--method {args.method} takes weights by --{METHODS[args.method]} and no others.")
    check_options(args)
    if args.device:
        check_device(args.device)


def check_options(args) -> None:
    """Raises ValueError for an option that the method does not read."""
    parser = make_parser()
    for name, methods in READ_BY.items():
        if args.method not in methods and getattr(args, name) != parser.get_default(name):
            raise ValueError(f"--{name} is of --method {' and '.join(methods)}; {args.method} does not read it.")
    given = args.method == "coarse" and args.flow_strength == 0
    if args.flow_guidance_scale is not None and (given or args.flow_first is False):
        raise ValueError(f"--flow_guidance_scale {args.flow_guidance_scale:g} is of flow that is drawn first.")
    if args.method == "coarse" and args.interpolation == "edge_aware" and args.reach is not None:
        raise ValueError(f"--reach {args.reach} is of --interpolation distance; edge_aware goes by the picture.")


def load_pipeline(args) -> StableVideoDiffusionTrajectoryPipeline | StableVideoDiffusionTrajectoryControlNetPipeline:
    controlled = args.method == "controlnet"
    kind = StableVideoDiffusionTrajectoryControlNetPipeline if controlled else StableVideoDiffusionTrajectoryPipeline
    with loading(args.model_dir):
        pipe = kind.from_pretrained(args.model_dir, dtype=DTYPES[args.dtype])
    if controlled:
        pipe.load_controlnet(args.controlnet)
    else:
        pipe.load_flow_adapter(args.adapter)
    for network in (pipe.unet, pipe.vae):
        network.requires_grad_(False)  # a gradient by latents needs none by weights
    if args.gradient_checkpointing:
        pipe.unet.enable_gradient_checkpointing()
        pipe.vae.enable_gradient_checkpointing()
    return pipe.to(args.device or process_state().device)


def write_results(
    folder: Path, video: torch.Tensor, flow: torch.Tensor, image: torch.Tensor, tracks: Tracks, fps: float, given: bool
) -> list[Path]:
    """Files of a video (F, 3, H, W) in [-1, 1], its flow (F - 1, 2, H, W), and the ways of its points; a given flow says nothing of the video."""
    files = write_flow_results(folder, flow, image, fps)
    write_video(folder / "video.mp4", video, fps)
    obtained = follow_flow(tracks.points[0], flow.float().cpu())
    with replacing(folder / "tracks.png") as temporary:
        track_sheet(video, tracks.points, obtained).save(temporary, format="PNG")
    print(f"Written: video.mp4, tracks.png and {len(flow)} flows in {folder}")
    if obtained.shape[1] and not given:
        error = (obtained - tracks.points).norm(dim=-1)[1:].mean()
        print(f"By this flow the points are {error:.2f} pixels from where they were asked to be, on average.")
    return [*files, folder / "video.mp4", folder / "tracks.png"]


if __name__ == "__main__":
    run_script(main)
