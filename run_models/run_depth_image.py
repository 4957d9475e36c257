"""Samples images with their depth (or other conditions), and either from the other.

python run_models/run_depth_image.py --mode joint --prompt "a red cube and a blue sphere" --output_dir outputs/pair
python run_models/run_depth_image.py --mode image_to_depth --image photo.png --output_dir outputs/depth
python run_models/run_depth_image.py --mode image_to_depth --video clip.mp4 --output_dir outputs/clip_depth
python run_models/run_depth_image.py --mode one_step --image photo.png --output_dir outputs/estimated_depth
python run_models/run_depth_image.py --mode one_step --video clip.mp4 --output_dir outputs/estimated_clip
python run_models/run_depth_image.py --mode depth_to_image --depth depth.png --prompt "a green cone" --output_dir …
python run_models/run_depth_image.py --mode coarse --depth sketch.png --strength 0.6 --output_dir outputs/coarse

Writes for each pair 00_image.png, 00_depth.png in colours, 00_depth_16bit.png and 00_side_by_side.png, and run.json;
of a video depth.mp4 in colours, side_by_side.mp4, and depth_000_16bit.png and on.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from pipelines.clip_depth import estimate_clip_depth, read_clip, sample_clip_depth, write_clip_depth
from pipelines.image_commands import (
    NEEDED,
    NEEDS,
    READ_BY,
    add_pair_inputs,
    add_pair_sampling,
    check_sampler,
    condition_files,
)
from pipelines.image_pairs import (
    check_objective,
    fit_inputs,
    load_joint,
    name_adapters,
    read_conditions,
    sample_pairs,
    write_pairs,
)
from pipelines.layouts import Layout
from pipelines.one_step import estimate_condition
from pipelines.pipeline_stable_diffusion_joint import StableDiffusionJointPipeline
from pipelines.sizes import fit_video
from utils.arguments import check_choice, check_needs, filled, make_parser, maybe_named_path, parse_args, run_script
from utils.commands.argument_groups import add_machine_arguments, add_output_arguments
from utils.commands.results import RECORD, Run, check_output_dir, remove_last_run
from utils.diffusion.one_step import ONE_STEP
from utils.images import read_image, to_pixels
from utils.messages.words import count
from utils.pretrained import choose_device, find_scheduler, shipped
from utils.video import Video
from utils.weights.embedded import warn_of_photograph
from utils.weights.model_kinds import read_estimator

BASE = "pretrained_model_name_or_path"
ADAPTER, ESTIMATOR = (shipped(f"depth_image/{name}") for name in ("depth.safetensors", "one_step"))
PROMPT = "a red cube and a blue sphere on a gray floor, white wall"


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    add_pair_inputs(result.add_argument_group("inputs"))
    add_pair_sampling(result.add_argument_group("sampling"))
    group = result.add_argument_group("weights, machine and results")
    add = group.add_argument
    base = "folder or hub name of a Stable Diffusion base"
    add(f"--{BASE}", type=filled, default=shipped("tiny_sd"), help=base)
    add(
        "--adapter",
        nargs="+",
        type=maybe_named_path,
        metavar="[NAME=]PATH",
        help="adapters of train_depth_image.py, files or folders, or joint ones on the hub; NAME replaces that in the "
        "file (default: weights/depth_image/depth.safetensors, for --mode one_step weights/depth_image/one_step)",
    )
    add("--trigger_word", help="words that begin the condition's prompt (default: those in the adapter's file)")
    add_machine_arguments(group)
    add_output_arguments(group)
    return result


def main(argv=None) -> Path:
    """Runs the script and returns the folder of its images."""
    args = parse_args(parser(), argv)
    check_arguments(args)
    args = with_defaults(args)
    adapters, files = name_adapters(args.adapter), condition_files(args)
    check_adapters(args, adapters)
    conditions = read_conditions(files, adapters, args.depth_kind)
    base, folder = getattr(args, BASE), Path(args.output_dir)
    image = read_image(args.image) if args.image else None
    clip = read_clip(args.video) if args.video else None
    check_base(args, image, [*conditions.values()] if clip is None else [clip.pixels])
    run = Run.start(argv, vars(args), [base, *adapters.values()])
    pipe = load_joint(base, adapters, args.trigger_word, args.scheduler, args.device, args.dtype, f"--{BASE}")
    if clip is not None:
        return finish(folder, run, *estimate_video(pipe, args, clip))
    image, conditions = fit_inputs(pipe, image, conditions, args.height, args.width, {None: args.image, **files})
    if image is not None:
        warn_of_photograph(base, to_pixels(image), args.image, f"--{BASE}")
    if args.mode == ONE_STEP:
        out = estimate_condition(pipe, image, *adapters)
    else:
        strength = args.strength if args.mode == "coarse" else None
        out = sample_pairs(pipe, image, conditions, strength, args.condition_strength, **options(args))
    made = f"{count(len(out.images), 'image')} with {' and '.join(out.values)}"
    return finish(folder, run, write_pairs(folder, out), out.images[0].size, made)


def estimate_video(pipe, args, clip: Video) -> tuple[list[Path], tuple[int, int], str]:
    """Writes the depth of a clip and returns its files, their width and height, and what was made."""
    frames = fit_video(pipe, clip.pixels, args.height, args.width, args.video)
    warn_of_photograph(getattr(args, BASE), frames[0], args.video, f"--{BASE}")
    if args.mode == ONE_STEP:
        depth = estimate_clip_depth(pipe, frames)
    else:
        depth = sample_clip_depth(pipe, frames, **video_options(args))
    files = write_clip_depth(args.output_dir, frames, depth, clip.fps)
    return files, tuple(frames.shape[:-3:-1]), f"{count(len(frames), 'frame')} of depth"


def finish(folder: Path, run: Run, files: list[Path], size: tuple[int, int], made: str) -> Path:
    """Writes the record, says what was made, and returns the folder."""
    remove_last_run(folder, kept=files)
    run.write(folder / RECORD, files, width=size[0], height=size[1])
    print(f"{made} in {run.seconds:.1f} s: {folder.resolve()}")
    return folder


def with_defaults(args) -> argparse.Namespace:
    """The arguments with what depends on the mode."""
    joint = args.mode == "joint"
    if args.prompt is None and joint:
        args.prompt = PROMPT
    if args.num_images_per_prompt is None:
        args.num_images_per_prompt = 4 if joint else 1
    if args.adapter is None:
        args.adapter = [ESTIMATOR if args.mode == ONE_STEP else ADAPTER]
    return args


def check_arguments(args) -> None:
    """One sentence about what would fail after a long time."""
    check_choice(parser(), args, "mode", NEEDS, READ_BY)
    check_needs(parser(), args, NEEDED)
    if args.image and args.video:
        raise ValueError(f"--image {args.image} and --video {args.video}: pass one of them.")
    if args.video and (args.num_images_per_prompt or 1) > 1:
        raise ValueError(f"--num_images_per_prompt {args.num_images_per_prompt} does not apply to --video; remove it.")
    if args.scheduler:
        find_scheduler(args.scheduler)
    choose_device(args.device)
    check_output_dir(args.output_dir, args.overwrite, [args.image, args.video, *condition_files(args).values()])


def check_adapters(args, adapters: dict[str, str]) -> None:
    """Raises ValueError for adapters that the mode, or a video, does not take."""
    check_objective(adapters, args.mode)
    if args.trigger_word is not None and any(map(read_estimator, adapters.values())):
        raise ValueError(f"--trigger_word {args.trigger_word!r}: a LoRA that estimates reads no prompt; remove it.")
    if args.video and [*adapters] != ["depth"]:
        held = " and ".join(adapters)
        raise ValueError(f"--video takes depth alone, and --adapter has {held}: pass one called depth (depth=PATH).")


def check_base(args, image: Image.Image | None, others: Sequence) -> None:
    """One sentence about what the base cannot do, from its configurations.

    Args:
        others: Conditions or frames (…, H, W); the size of the first one counts where there is no image.
    """
    base, flag = getattr(args, BASE), f"--{BASE}"
    layout = Layout.read(base, flag, StableDiffusionJointPipeline)
    layout.check_sides(args.height, args.width)
    if image is not None or others:
        size = others[0].shape[-2:] if image is None else image.size[::-1]
        layout.target_size(args.height, args.width, size)
    check_sampler(base, flag, args.scheduler, args.num_inference_steps)


def options(args) -> dict:
    """Arguments of the pipeline's call."""
    names = ("prompt", "negative_prompt", "num_images_per_prompt", "num_inference_steps", "guidance_scale")
    names += ("condition_guidance_scale", "height", "width")
    return {name: getattr(args, name) for name in names} | {"generator": torch.Generator().manual_seed(args.seed)}


def video_options(args) -> dict:
    """Arguments of `sample_clip_depth`."""
    unread = ("generator", "num_images_per_prompt", "height", "width")
    return {name: value for name, value in options(args).items() if name not in unread} | {"seed": args.seed}


if __name__ == "__main__":
    run_script(main)
