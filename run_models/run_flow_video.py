"""Draws a video and its optical flow together from a picture, by a joint adapter of train_flow_video.py.

python run_models/run_flow_video.py --input_image photo.png --output_dir outputs/pair
python run_models/run_flow_video.py --mode flow_to_video --input_image photo.png --input_flow flows/ --output_dir …
python run_models/run_flow_video.py --mode video_to_flow --input_video clip.mp4 --output_dir …
python run_models/run_flow_video.py --mode coarse --flow_strength 0.6 --input_image photo.png --input_flow flows/ --output_dir …

Writes video.mp4, flow_000.flo and on, one for each step, flow.png, flow.mp4 and pair.mp4 (video above its flow).
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from pipelines.pipeline_stable_video_diffusion_joint import StableVideoDiffusionJointPipeline
from pipelines.sizes import check_num_frames, fit_image
from utils.arguments import parse_args, positive_int, run_script
from utils.diffusion.sampling import FlowSampling, VideoSampling, add_sampling_arguments
from utils.flow.files import read_flo
from utils.flow.results import check_output_folder, color_video, write_flow_results
from utils.folders import list_files
from utils.images import image_size, read_image
from utils.pretrained import DTYPES, check_device, loading
from utils.processes import process_state
from utils.video import read_video, to_frames, write_video

REPOSITORY = Path(__file__).resolve().parent.parent
MODES = {  # what each needs
    "joint": ("input_image",),
    "flow_to_video": ("input_image", "input_flow"),
    "video_to_flow": ("input_video",),
    "coarse": ("input_image", "input_flow"),
}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument_group("files and machine").add_argument
    add("--model_dir", default=str(REPOSITORY / "weights/tiny_svd"), help="folder or hub name of the base")
    add("--adapter", default=str(REPOSITORY / "weights/flow_video"), help="file or folder of train_flow_video.py")
    add("--mode", choices=MODES, default="joint")
    add("--input_image", help="the first frame; of --input_video in the mode video_to_flow")
    add("--input_flow", help="folder of .flo files of the video's size, one for each step, in the order of their names")
    add("--input_video", help="of the size wanted; its first --num_frames frames are taken")
    add("--output_dir", required=True)
    add("--overwrite", action="store_true", help="accept an output_dir with content")
    add("--device", help="by default the one that Accelerate gives to the process")
    add("--dtype", choices=DTYPES, default="float32")
    group = parser.add_argument_group("sampling")
    add_sampling_arguments(group)
    add_sampling_arguments(group, FlowSampling, flow_strength=0.6)
    add = group.add_argument
    add("--seed", type=int, default=0)
    add("--num_frames", type=positive_int, help="by default the model's, or those of --input_flow")
    add("--height", type=positive_int, help="like --width of the mode joint; flow and video have a size")
    add("--width", type=positive_int, help="by default the picture's shape at the model's number of pixels")
    add("--decode_chunk_size", type=positive_int, help="frames decoded at once; by default all")
    return parser


def main(argv=None) -> list[Path]:
    """Runs the script and returns the files."""
    args = parse_args(make_parser(), argv)
    check(args)
    flow = read_flow_folder(Path(args.input_flow)) if args.input_flow else None
    pipe = load_pipeline(args)
    pixels, known = read_known(args, pipe, flow)
    strength = None if flow is None else args.flow_strength if args.mode == "coarse" else 0.0
    out = pipe(
        pixels[None],
        **known,
        **VideoSampling.from_args(args).options(),
        **FlowSampling.from_args(args, flow_strength=strength).options(),
        generator=torch.Generator().manual_seed(args.seed),
        num_frames=args.num_frames,
        decode_chunk_size=args.decode_chunk_size,
        output_type="pt",
    )
    files = write_results(Path(args.output_dir), out.frames[0] * 2 - 1, out.flows[0], pixels, args.fps)
    print(f"Written: video.mp4, pair.mp4 and {len(out.flows[0])} flows in {args.output_dir}")
    return files


def check(args) -> None:
    """One sentence about what would fail after a long time."""
    VideoSampling.from_args(args)
    FlowSampling.from_args(args)
    check_num_frames(args.num_frames)
    check_output_folder(args.output_dir, args.overwrite)
    for name in ("input_image", "input_flow", "input_video"):
        if (getattr(args, name) is not None) != (name in MODES[args.mode]):
            raise ValueError(f"--mode {args.mode} takes {', '.join(f'--{n}' for n in MODES[args.mode])} and no other.")
    if args.mode != "joint" and (args.height or args.width):
        known = MODES[args.mode][-1]
        raise ValueError(f"--mode {args.mode} draws at the size of --{known}: leave --height and --width out.")
    if args.flow_first is not None and args.mode not in ("joint", "coarse"):
        raise ValueError(f"--flow_first is of the modes joint and coarse; in {args.mode} one side is given.")
    if args.flow_guidance_scale is not None and (args.mode not in ("joint", "coarse") or args.flow_first is False):
        raise ValueError(f"--flow_guidance_scale {args.flow_guidance_scale:g} is of flow that is drawn first.")
    if args.mode == "coarse" and not 0 < args.flow_strength <= 1:
        raise ValueError(f"--flow_strength {args.flow_strength} is not in 0 to 1; for 0 take --mode flow_to_video.")
    if args.input_image:
        image_size(args.input_image)
    if args.device:
        check_device(args.device)


def load_pipeline(args) -> StableVideoDiffusionJointPipeline:
    with loading(args.model_dir):
        pipe = StableVideoDiffusionJointPipeline.from_pretrained(args.model_dir, dtype=DTYPES[args.dtype])
    pipe.load_flow_adapter(args.adapter)
    return pipe.to(args.device or process_state().device)


def read_flow_folder(folder: Path) -> torch.Tensor:
    """Flow (F - 1, 2, H, W) in pixels."""
    paths = list_files(folder, {".flo"})
    if not paths:
        raise FileNotFoundError(f"There is no .flo file in --input_flow {folder}.")
    flows = [read_flo(path) for path in paths]
    for path, flow in zip(paths, flows, strict=True):
        if flow.shape != flows[0].shape:
            raise ValueError(f"{path} is of another size than {paths[0]}: bring them to one.")
    return torch.from_numpy(np.stack(flows))


def read_known(args, pipe, flow: torch.Tensor | None) -> tuple[torch.Tensor, dict]:
    """The first frame (3, H, W), and what the pipeline is told besides."""
    if args.mode == "video_to_flow":
        frames = read_video(args.input_video, num_frames=args.num_frames or pipe.unet.config.num_frames).pixels
        return frames[0], {"video": frames[None]}
    if flow is None:
        return fit_image(pipe, read_image(args.input_image), args.height, args.width, args.input_image), {}
    # The image takes the size of the flow, whose vectors are in pixels of it.
    size = tuple(flow.shape[-2:])
    return fit_image(pipe, read_image(args.input_image), *size, args.input_image), {"flow": flow[None]}


def write_results(folder: Path, video: torch.Tensor, flow: torch.Tensor, image: torch.Tensor, fps: float) -> list[Path]:
    """Files of a video (F, 3, H, W) in [-1, 1] and its flow (F - 1, 2, H, W)."""
    files = write_flow_results(folder, flow, image, fps)
    frames = to_frames(video)
    colors = color_video(flow.cpu().numpy())
    write_video(folder / "video.mp4", frames, fps)
    write_video(folder / "pair.mp4", np.concatenate([frames[:-1], colors], axis=1), fps)
    return [*files, folder / "video.mp4", folder / "pair.mp4"]


if __name__ == "__main__":
    run_script(main)
