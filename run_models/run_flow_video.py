"""Samples a video and its optical flow from an image by a joint adapter of train_flow_video.py, or one from the other.

python run_models/run_flow_video.py --input_image photo.png --output_dir outputs/pair
python run_models/run_flow_video.py --mode flow_to_video --input_image photo.png --input_flow flows/ --output_dir …
python run_models/run_flow_video.py --mode video_to_flow --input_video clip.mp4 --output_dir …
python run_models/run_flow_video.py --mode coarse --flow_strength 0.6 --input_image photo.png --input_flow flows/ …

Writes video.mp4, flow_000.flo and on, one for each step, flow.png, flow.mp4, pair.mp4 (video above its flow) and
run.json.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from pipelines.flow_adapter import FlowAdapter
from pipelines.pipeline_stable_video_diffusion_joint import StableVideoDiffusionJointPipeline
from pipelines.sizes import fit_flow, fit_image, fit_video
from pipelines.video_commands import (
    add_base_argument,
    add_result_arguments,
    add_video_sampling,
    check_video_base,
    check_video_run,
)
from utils.arguments import check_choice, filled, make_parser, parse_args, run_script
from utils.commands.results import RECORD, Run, remove_last_run
from utils.data.inputs import read_clip, read_steps
from utils.diffusion.sampling import FlowSampling, VideoSampling, add_sampling_arguments, check_guidance
from utils.flow.results import color_video, write_flow_results
from utils.images import read_image
from utils.messages.words import count
from utils.pretrained import choose_device, load_pipeline, shipped
from utils.video import to_frames, write_video
from utils.weights.embedded import warn_of_photograph
from utils.weights.lora import is_lora
from utils.weights.model_kinds import check_adapter

NEEDS = {  # one of each group
    "joint": [("input_image",)],
    "flow_to_video": [("input_image",), ("input_flow",)],
    "video_to_flow": [("input_video",)],
    "coarse": [("input_image",), ("input_flow",)],
}
VIDEO_FLAGS = (  # that only the sampling of a video reads
    "solver_order", "eta", "min_guidance_scale", "max_guidance_scale", "guidance_min_sigma", "guidance_max_sigma",
    "guidance_parallel", "negative_motion_bucket_id", "still_threshold",
)  # fmt: skip
ADAPTER, ESTIMATOR = (shipped(f"flow_video{folder}") for folder in ("", "/one_step"))
UNREAD_BY_ESTIMATES = (  # flags that flow estimated in one step does not read
    "num_inference_steps", "seed", "motion_bucket_id", "motion_bucket_scale", "noise_aug_strength",
    "flow_solver_order", "joint_guidance_scale",
)  # fmt: skip
READ_BY = {
    "input_image": ("joint", "flow_to_video", "coarse"),
    "input_flow": ("flow_to_video", "coarse"),
    "input_video": ("video_to_flow",),
    "flow_first": ("joint", "coarse"),
    "flow_solver_order": ("joint", "video_to_flow", "coarse"),
    "flow_guidance_scale": ("joint", "coarse"),
    "flow_strength": ("coarse",),
} | dict.fromkeys(VIDEO_FLAGS, ("joint", "flow_to_video", "coarse"))


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    add = result.add_argument_group("inputs").add_argument
    add("--mode", choices=NEEDS, default="joint", help="what is sampled, and from what")
    add("--input_image", type=filled, help="first frame, in all modes but video_to_flow (default: none)")
    add(
        "--input_flow",
        type=filled,
        help="flow, for the modes flow_to_video and coarse: a folder of .flo or .npy files, one for each step, a "
        "single one, or an annotation of utils.data.annotate_flow (default: none)",
    )
    add(
        "--input_video",
        type=filled,
        help="video, for the mode video_to_flow: a file, or a folder of numbered frames; its first frames are taken "
        "(default: none)",
    )
    group = result.add_argument_group("weights")
    add_base_argument(group)
    group.add_argument(
        "--adapter",
        type=filled,
        help="file or folder of train_flow_video.py, or, for --mode video_to_flow, of train_svd_flow.py --objective "
        "one_step (default: weights/flow_video, for --mode video_to_flow weights/flow_video/one_step)",
    )
    add_sampling_arguments(add_video_sampling(result), FlowSampling, flow_strength=0.6)
    add_result_arguments(result)
    return result


def main(argv=None) -> list[Path]:
    """Runs the script and returns the files."""
    args = with_defaults(parse_args(parser(), argv))
    check(args)
    run = Run.start(argv, vars(args), [args.model_dir, args.adapter])
    flow = read_steps(args.input_flow, args.num_frames and args.num_frames - 1) if args.input_flow else None
    pipe = load(args.model_dir, args.adapter, args.device, args.dtype)
    image, known = fit_inputs(args, pipe, flow)
    warn_of_photograph(args.model_dir, image, args.input_image or args.input_video, "--model_dir")
    options = sampling_options(args, pipe, flow, known)
    out = pipe(image[None], **known, **options, output_type="pt")
    video, flow = out.frames[0] * 2 - 1, out.flows[0]
    folder = Path(args.output_dir)
    files = write_pair(folder, video, flow, image, args.fps)
    remove_last_run(folder, kept=files)
    run.write(folder / RECORD, files, frames=len(video), height=video.shape[-2], width=video.shape[-1])
    print(f"Written: video.mp4, pair.mp4 and {count(len(flow), 'flow')} in {folder}")
    return files


def with_defaults(args) -> argparse.Namespace:
    """The arguments with the adapter of the mode where none is given."""
    if args.adapter is None:
        args.adapter = ESTIMATOR if args.mode == "video_to_flow" else ADAPTER
    return args


def check(args) -> None:
    """One sentence about what would fail after a long time."""
    check_choice(parser(), args, "mode", NEEDS, READ_BY)
    check_video_run(args, [args.input_image, args.input_flow, args.input_video])
    check_guidance(parser(), args, VideoSampling.from_args(args))
    FlowSampling.from_args(args)
    if args.flow_guidance_scale is not None and args.flow_first is False:
        scale = f"--flow_guidance_scale {args.flow_guidance_scale:g}"
        raise ValueError(f"{scale} applies to flow that is sampled before its video: remove it or --no-flow_first.")
    if args.mode == "coarse" and args.flow_strength == 0:
        raise ValueError("--flow_strength 0 keeps the flow as it is: pass --mode flow_to_video, or more than 0.")
    if args.mode == "video_to_flow" and is_lora(args.adapter):
        check_estimation(args)
    else:
        trained_by = "train_flow_video.py"
        if args.mode == "video_to_flow":
            trained_by += ", or a LoRA of train_svd_flow.py --objective one_step,"
        check_adapter(args.adapter, "UNetSpatioTemporalConditionModel", trained_by, "--adapter")
    layout = check_video_base(args, [] if args.input_flow or args.input_video else [args.input_image])
    if args.input_video:  # decoded once more when it is fitted to the model: here damage costs no time
        clip = read_clip(args.input_video, args.num_frames, at_most=layout.num_frames)
        layout.target_size(args.height, args.width, clip.shape[-2:])


def check_estimation(args) -> None:
    """Raises ValueError where a LoRA is no estimator, and for flags that it does not read."""
    FlowAdapter.from_lora("", args.adapter)
    defaults = parser()
    for name in UNREAD_BY_ESTIMATES:
        if (value := getattr(args, name)) != defaults.get_default(name):
            raise ValueError(
                f"--{name} {value} applies to flow that is sampled, and {args.adapter} estimates it in one step: "
                "remove it, or pass an --adapter of train_flow_video.py."
            )


def load(
    base: str, adapter: str, device: str | None = None, dtype: str = "float32"
) -> StableVideoDiffusionJointPipeline:
    """The pipeline of a base with a joint adapter of flow."""
    pipe = load_pipeline(StableVideoDiffusionJointPipeline, base, dtype, "--model_dir")
    pipe.load_flow_adapter(adapter)
    return pipe.to(choose_device(device))


def fit_inputs(args, pipe, flow: torch.Tensor | None) -> tuple[torch.Tensor, dict]:
    """The first frame (3, H, W), and what the pipeline is given besides, all of one size."""
    if args.mode == "video_to_flow":
        frames = read_clip(args.input_video, args.num_frames, at_most=pipe.unet.config.num_frames)
        frames = fit_video(pipe, frames, args.height, args.width, args.input_video)
        return frames[0], {"video": frames[None]}
    size, known = (args.height, args.width), {}
    if flow is not None:
        flow = fit_flow(pipe, flow, *size, args.input_flow)
        size, known = flow.shape[-2:], {"flow": flow[None]}
    return fit_image(pipe, read_image(args.input_image), *size, args.input_image), known


def sampling_options(args, pipe, flow: torch.Tensor | None, known: dict) -> dict:
    """Arguments of the pipeline's call besides what is given; an estimate reads no settings of a sampling."""
    options = {"decode_chunk_size": args.decode_chunk_size}
    if pipe.flow_adapter.one_step:
        return options
    strength = None if flow is None else args.flow_strength if args.mode == "coarse" else 0.0
    options |= VideoSampling.from_args(args).options() | FlowSampling.from_args(args, flow_strength=strength).options()
    options |= {} if known else {"num_frames": args.num_frames}
    return options | {"generator": torch.Generator().manual_seed(args.seed)}


def write_pair(folder: Path, video: torch.Tensor, flow: torch.Tensor, image: torch.Tensor, fps: float) -> list[Path]:
    """Write a video (F, 3, H, W) in [-1, 1] and its flow (F - 1, 2, H, W); returns the files."""
    files = write_flow_results(folder, flow, image, fps)
    frames = to_frames(video)
    colors = color_video(flow.float().cpu().numpy())
    write_video(folder / "video.mp4", frames, fps)
    write_video(folder / "pair.mp4", np.concatenate([frames[:-1], colors], axis=1), fps)
    return [*files, folder / "video.mp4", folder / "pair.mp4"]


if __name__ == "__main__":
    run_script(main)
