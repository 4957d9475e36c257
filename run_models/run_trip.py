"""Samples videos that begin with images, by TRIP on Stable Video Diffusion (train_trip.py).

python run_models/run_trip.py --model_dir outputs/trip --first_frame photo.png --output_dir outputs/video
python run_models/run_trip.py --model_dir outputs/trip --first_frame photos/ --num_frames 16 --output_dir …
python run_models/run_trip.py --model_dir outputs/trip --prompt "a red cube on a gray floor" --output_dir from_text
python run_models/run_trip.py --model_dir outputs/trip --first_frame photo.png --prompt "a blue cube" --output_dir …

A prompt alone makes the first frame by Stable Diffusion, and a prompt with a first frame edits it; the video itself is
conditioned on the first frame. Writes for each video 00.mp4 and 00_first_frame.png, and run.json.
"""

import argparse
from itertools import groupby
from pathlib import Path

import torch

from pipelines.first_frames import make_first_frames, pair_up
from pipelines.pipeline_trip import StableVideoDiffusionTripPipeline
from pipelines.sizes import check_num_frames, fit_image
from pipelines.video_commands import add_result_arguments, add_video_sampling
from utils.arguments import finite_float, make_parser, parse_args, positive_int, run_script
from utils.commands.results import RECORD, Run, check_output_dir, remove_last_run, write_png
from utils.commands.video_jobs import list_images
from utils.diffusion.sampling import VideoSampling
from utils.formats.frame_rates import check_fps
from utils.images import image_size, read_image, to_image
from utils.messages.words import count
from utils.pretrained import choose_device, load_pipeline, shipped
from utils.video import write_video

SCALES = ("min_guidance_scale", "max_guidance_scale")  # in whose place there is one


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    _add_first_frame(result.add_argument_group("first frame"))
    group = add_video_sampling(result, leave_out=SCALES)
    help_text = "guidance scale of all frames; 1 or less: no guidance"
    group.add_argument("--guidance_scale", type=finite_float, default=2.0, help=help_text)
    group.add_argument("--batch_size", type=positive_int, default=1, help="videos at once; none depends on the others")
    result.add_argument_group("weights").add_argument("--model_dir", required=True, help="folder of train_trip.py")
    add_result_arguments(result)
    return result


def _add_first_frame(group) -> None:
    add = group.add_argument
    add("--first_frame", nargs="+", default=[], metavar="PATH", help="images, and folders of images (default: none)")
    add(
        "--prompt",
        nargs="+",
        default=[],
        metavar="TEXT",
        help="one for all images, or one for each: text that makes the first frame, or edits --first_frame "
        "(default: none)",
    )
    add("--image_model", default=shipped("tiny_sd"), help="folder or hub name of a Stable Diffusion base, for --prompt")
    add("--edit_strength", type=float, default=0.6, help="share of the noise with which a first frame is edited")
    add("--image_steps", type=positive_int, default=30, help="denoising steps of the first frame")
    add("--image_guidance_scale", type=finite_float, default=5.0, help="guidance scale of the prompt")


def main(argv=None) -> list[Path]:
    """Runs the script and returns the files."""
    args = parse_args(parser(), argv)
    paths = [image for path in args.first_frame for image in list_images(Path(path), "--first_frame")]
    check(args, paths)
    run = Run.start(argv, vars(args), [args.model_dir, args.image_model if args.prompt else None])
    pipe = load(args.model_dir, args.dtype, args.device)
    frames = make_first_frames(
        [read_image(path) for path in paths], args.prompt, args.image_model, args.device, args.dtype,
        args.edit_strength, args.seed, num_inference_steps=args.image_steps, guidance_scale=args.image_guidance_scale,
    )  # fmt: skip
    names = [str(path) for path in paths] if len(paths) == len(frames) else [f"Image {k}" for k in range(len(frames))]
    pixels = [fit_image(pipe, frame, args.height, args.width, name) for frame, name in zip(frames, names, strict=True)]
    files = sample_videos(args, pipe, pixels)
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
    if not 0 < args.edit_strength <= 1:
        raise ValueError(f"--edit_strength {args.edit_strength:g} is not allowed: pass more than 0, up to 1.")
    read_sampling(args)
    check_num_frames(args.num_frames)
    check_fps(args.fps, "video.mp4")
    check_output_dir(args.output_dir, args.overwrite, paths)
    for path in paths:
        image_size(path)
    choose_device(args.device)


def read_sampling(args) -> VideoSampling:
    return VideoSampling.from_args(args, **dict.fromkeys(SCALES, args.guidance_scale))


def load(model_dir: str, dtype: str, device: str | None) -> StableVideoDiffusionTripPipeline:
    """The base with its fusion.

    Raises:
        FileNotFoundError, ValueError: There is none.
    """
    pipe = load_pipeline(StableVideoDiffusionTripPipeline, model_dir, dtype, "--model_dir")
    if pipe.fusion is None:
        raise ValueError(f"--model_dir {model_dir} has no TRIP fusion: train one with train_models/train_trip.py.")
    return pipe.to(choose_device(device))


def sample_videos(args, pipe: StableVideoDiffusionTripPipeline, pixels: list[torch.Tensor]) -> list[Path]:
    """Write a video for each first frame (3, H, W); the k-th has the seed --seed + k."""
    files, folder = [], Path(args.output_dir)
    for batch in batches(pixels, args.batch_size):
        videos = pipe(
            torch.stack([pixels[k] for k in batch]),
            num_frames=args.num_frames,
            decode_chunk_size=args.decode_chunk_size,
            generator=[torch.Generator().manual_seed(args.seed + k) for k in batch],
            output_type="pt",
            **read_sampling(args).options(),
        ).frames
        for k, video in zip(batch, videos * 2 - 1, strict=True):
            write_video(folder / f"{k:02d}.mp4", video, args.fps)
            files += [folder / f"{k:02d}.mp4", write_png(folder / f"{k:02d}_first_frame.png", to_image(pixels[k]))]
    return files


def batches(pixels: list[torch.Tensor], size: int) -> list[list[int]]:
    """Numbers of images that are sampled at once: neighbours of one size."""
    runs = [list(run) for _, run in groupby(range(len(pixels)), lambda k: pixels[k].shape)]
    return [run[start : start + size] for run in runs for start in range(0, len(run), size)]


if __name__ == "__main__":
    run_script(main)
