"""Samples videos that begin with images, by TRIP on Stable Video Diffusion or on text to video (train_trip.py).

python run_models/run_trip.py --model_dir outputs/trip --first_frame photo.png --output_dir outputs/video
python run_models/run_trip.py --model_dir outputs/trip --first_frame photos/ --num_frames 16 --output_dir …
python run_models/run_trip.py --model_dir outputs/trip --prompt "a red cube on a gray floor" --output_dir from_text
python run_models/run_trip.py --model_dir outputs/trip --first_frame photo.png --prompt "a blue cube" --output_dir …

A prompt alone makes the first frame by Stable Diffusion. With a first frame it edits that where the base is Stable
Video Diffusion; a text to video base reads it itself, and edits with --edit_strength. Writes for each video 00.mp4 and
00_first_frame.png, and run.json.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from pipelines.first_frames import check_image_model, make_first_frames, pair_up
from pipelines.layouts import check_steps
from pipelines.pipeline_trip_text import TextToVideoTripPipeline
from pipelines.sizes import check_num_frames, fit_image
from pipelines.trip_bases import SVD_ONLY, TripPipeline, load_trip, trip_pipeline
from pipelines.video_commands import add_result_arguments, add_video_sampling, check_video_base
from utils.arguments import check_needs, filled, finite_float, make_parser, positive_int, refuse_flags, run_script
from utils.commands.results import RECORD, Run, check_output_dir, remove_last_run, write_png
from utils.commands.video_jobs import batches, list_images
from utils.diffusion.sampling import VideoSampling, model_sampling, parse_sampling_args
from utils.formats.frame_rates import check_fps
from utils.images import image_size, read_image, to_image
from utils.messages.words import count
from utils.pretrained import choose_device, shipped
from utils.video import write_video
from utils.weights.embedded import warn_of_photograph

SCALES = ("min_guidance_scale", "max_guidance_scale")  # in whose place there is one
GUIDANCE_SCALE = 2.0
TEXT_SAMPLING = ("num_inference_steps", "solver_order")  # what a text to video base takes of `VideoSampling`


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    _add_first_frame(result.add_argument_group("first frame"))
    group = add_video_sampling(result, leave_out=SCALES)
    help_text = "guidance scale of all frames; 1 or less: none (default: the model's own or 2; 9 with text to video)"
    group.add_argument("--guidance_scale", type=finite_float, help=help_text)
    group.add_argument(
        "--batch_size", type=positive_int, default=1, help="videos that are sampled at once; none depends on the others"
    )
    group = result.add_argument_group("weights")
    group.add_argument("--model_dir", type=filled, required=True, help="folder of train_trip.py")
    add_result_arguments(result)
    return result


def _add_first_frame(group) -> None:
    add = group.add_argument
    images = "images, and folders of images (default: none)"
    add("--first_frame", type=filled, nargs="+", default=[], metavar="PATH", help=images)
    help_text = (
        "one for all images, or one for each: makes or edits the first frame, or is read by a text to video base"
    )
    add("--prompt", nargs="+", default=[], metavar="TEXT", help=f"{help_text} (default: none)")
    base = "folder or hub name of a Stable Diffusion base, which makes or edits the first frame"
    add("--image_model", type=filled, default=shipped("tiny_sd"), help=base)
    help_text = (
        "share of the noise, above 0, up to 1, with which --prompt edits a first frame (default: 0.6; with text to "
        "video: no editing)"
    )
    add("--edit_strength", type=float, help=help_text)
    add("--image_steps", type=positive_int, default=30, help="denoising steps of the first frame")
    add(
        "--image_guidance_scale",
        type=finite_float,
        default=5.0,
        help="guidance scale of the prompt in the first frame; 1 or less: none",
    )


def main(argv=None) -> list[Path]:
    """Runs the script and returns the files."""
    args = parse_sampling_args(parser(), argv, read=read_sampling)
    paths = [image for path in args.first_frame for image in list_images(Path(path), "--first_frame")]
    kind = trip_pipeline(args.model_dir)
    text = kind is TextToVideoTripPipeline
    check(args, paths)
    if text:
        check_text(args)
    check_first_frames(args, text)
    check_video_base(args, paths, kind)
    if text:
        check_steps(args.model_dir, "--model_dir", num_inference_steps=args.num_inference_steps)
    run = Run.start(argv, vars(args), [args.model_dir, args.image_model if args.prompt else None])
    pipe = load_trip(args.model_dir, args.dtype).to(choose_device(args.device))
    frames = make_first_frames(
        [read_image(path) for path in paths], args.prompt, args.image_model, args.device, args.dtype,
        args.edit_strength, args.seed, keep=text, num_inference_steps=args.image_steps,
        guidance_scale=args.image_guidance_scale,
    )  # fmt: skip
    frames, prompts = zip(*pair_up(frames, args.prompt or [""]), strict=True)
    names = [str(path) for path in paths] if len(paths) == len(frames) else [f"Image {k}" for k in range(len(frames))]
    pixels = [fit_image(pipe, frame, args.height, args.width, name) for frame, name in zip(frames, names, strict=True)]
    for shown, name in zip(pixels, names, strict=True):
        warn_of_photograph(args.model_dir, shown, name, "a model of train_trip.py on")
    files = sample_videos(args, pipe, pixels, prompts)
    remove_last_run(args.output_dir, kept=files)
    run.write(Path(args.output_dir) / RECORD, files, prompts=args.prompt, first_frames=[str(path) for path in paths])
    print(f"Written: {count(len(frames), 'video')} in {args.output_dir}")
    return files


def check(args, paths: list[Path]) -> None:
    """One sentence about what would fail after a long time."""
    if not (paths or args.prompt):
        raise ValueError("There is nothing to begin with: pass --first_frame, --prompt, or both.")
    if paths and args.prompt:
        pair_up(paths, args.prompt)
    if args.edit_strength is not None and not 0 < args.edit_strength <= 1:
        raise ValueError(f"--edit_strength {args.edit_strength:g} is not allowed: pass more than 0, up to 1.")
    read_sampling(args)
    check_num_frames(args.num_frames)
    check_fps(args.fps, "video.mp4")
    check_output_dir(args.output_dir, args.overwrite, paths)
    for path in paths:
        image_size(path)
    choose_device(args.device)


def check_first_frames(args, text: bool) -> None:
    """Raises ValueError for flags of a first frame that is neither made nor edited."""
    edited = args.first_frame and args.prompt
    made = args.prompt and not (text and edited and args.edit_strength is None)
    needed = "--prompt, and with --first_frame --edit_strength" if text else "--prompt"
    needs = [
        (("edit_strength",), lambda args: edited, "--first_frame and --prompt"),
        (("image_model", "image_steps", "image_guidance_scale"), lambda args: made, needed),
    ]
    check_needs(parser(), args, needs)
    if made:
        check_image_model(args.image_model, args.image_steps)


def check_text(args) -> None:
    """Raises ValueError for what a text to video base lacks, and for what it does not read."""
    if not args.prompt:
        raise ValueError(f"--model_dir {args.model_dir} is conditioned on text: pass --prompt.")
    refuse_flags(args, parser(), sorted({*VideoSampling.names()} - {*TEXT_SAMPLING, *SCALES, "fps"}), SVD_ONLY)


def read_sampling(args, **given) -> VideoSampling:
    own = model_sampling(args.model_dir).get("max_guidance_scale", GUIDANCE_SCALE)
    scale = own if args.guidance_scale is None else args.guidance_scale
    return VideoSampling.from_args(args, **dict.fromkeys(SCALES, scale), **given)


def call_options(args, pipe: TripPipeline, prompts: list[str]) -> dict:
    """Arguments of the pipeline's call."""
    if not isinstance(pipe, TextToVideoTripPipeline):
        return read_sampling(args).options()
    scale = {} if args.guidance_scale is None else {"guidance_scale": args.guidance_scale}
    return {"prompt": prompts, **{name: getattr(args, name) for name in TEXT_SAMPLING}, **scale}


def sample_videos(args, pipe: TripPipeline, pixels: list[torch.Tensor], prompts: Sequence[str]) -> list[Path]:
    """Write a video for each first frame (3, H, W); the k-th has the seed --seed + k."""
    files, folder = [], Path(args.output_dir)
    for batch in batches(pixels, args.batch_size):
        videos = pipe(
            torch.stack([pixels[k] for k in batch]),
            num_frames=args.num_frames,
            decode_chunk_size=args.decode_chunk_size,
            generator=[torch.Generator().manual_seed(args.seed + k) for k in batch],
            output_type="pt",
            **call_options(args, pipe, [prompts[k] for k in batch]),
        ).frames
        for k, video in zip(batch, videos * 2 - 1, strict=True):
            write_video(folder / f"{k:02d}.mp4", video, args.fps)
            files += [folder / f"{k:02d}.mp4", write_png(folder / f"{k:02d}_first_frame.png", to_image(pixels[k]))]
    return files


if __name__ == "__main__":
    run_script(main)
