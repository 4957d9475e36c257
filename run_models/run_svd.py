"""Samples videos that begin with images, by Stable Video Diffusion.

python run_models/run_svd.py --input_image photo.png --output_video outputs/photo.mp4
python run_models/run_svd.py --input_image photos/ --output_video outputs/videos --fps 8 --motion_bucket_id 60
python run_models/run_svd.py --input_image photo.png --output_video outputs/long.mp4 --total_frames 32
accelerate launch --num_processes 2 run_models/run_svd.py --input_image photos/ --output_video outputs/videos

On CPUs the last line begins with torchrun --nproc_per_node 2. Beside each video lies its record, NAME.mp4.json.
"""

import argparse
import time
from pathlib import Path

import torch
from tqdm.auto import tqdm

from pipelines.adjustments import adjust_frames
from pipelines.long_video import WAYS, count_overlap, sample_long_video, segment_starts
from pipelines.memory import add_memory_arguments, check_offload, place, save_memory
from pipelines.pipeline_stable_video_diffusion import StableVideoDiffusionEDMPipeline
from pipelines.sizes import check_num_frames, fit_image
from pipelines.video_commands import add_base_argument, add_video_sampling, check_video_base
from utils.arguments import filled, finite_float, make_parser, positive_int, run_script, share
from utils.commands.argument_groups import add_machine_arguments
from utils.commands.results import Run
from utils.commands.video_jobs import Job, check_jobs, list_jobs
from utils.diffusion.sampling import VideoSampling, parse_sampling_args
from utils.images import read_image
from utils.pretrained import choose_device, load_pipeline
from utils.processes import process_state
from utils.weights.embedded import warn_of_photograph
from utils.weights.lora import load_lora
from utils.weights.model_kinds import check_lora


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    _add_files(result.add_argument_group("files"))
    add_video_sampling(result, frames="frames of the video, or of each segment of a long one, 2 or more")
    _add_frames(result.add_argument_group("frames"))
    group = result.add_argument_group("memory and machine")
    add_memory_arguments(group)
    add_machine_arguments(group)
    return result


def _add_files(group) -> None:
    add_base_argument(group)
    add = group.add_argument
    paths = {"type": filled, "nargs": "+", "metavar": "PATH"}
    add("--lora", default=[], help="LoRAs of train_svd.py, all active (default: none)", **paths)
    add("--input_image", required=True, help="images, and folders of images", **paths)
    output = "an .mp4 or .gif, or a folder that gets an .mp4 for each image"
    add("--output_video", type=filled, required=True, help=output)
    add("--overwrite", action="store_true", help="replace videos that exist")


def _add_frames(group) -> None:
    add = group.add_argument
    add("--temporal_smoothing", type=share, default=0.0, help="low-pass over frames, 0 to 1: less flicker and detail")
    add("--motion_scale", type=finite_float, default=1.0, help="factor of each frame's difference from the first")
    add("--total_frames", type=positive_int, help="frames of a long video, of several segments (default: --num_frames)")
    segments = "how segments follow: they overlap, or each begins with the last frame before (restart)"
    add("--long_video", choices=WAYS, default="overlap", help=segments)
    add("--overlap_frames", type=positive_int, help="frames that segments share (default: a quarter of a segment)")


def main(argv=None) -> list[Path]:
    """Runs the script and returns the videos that this process wrote."""
    args = parse_sampling_args(parser(), argv)
    jobs = list_jobs([Path(path) for path in args.input_image], Path(args.output_video), args.seed)
    device = check_arguments(args, jobs)
    run, state = Run.start(argv, vars(args), [args.model_dir, *args.lora]), process_state()
    pipe = load_pipeline(StableVideoDiffusionEDMPipeline, args.model_dir, args.dtype, "--model_dir")
    for index, path in enumerate(args.lora):
        load_lora(pipe.unet, path, f"lora_{index}")
    save_memory(pipe, args.forward_chunking, args.vae_slicing, args.vae_tiling)
    place(pipe, args.offload, device)
    pipe.set_progress_bar_config(disable=not state.is_main_process, leave=False)
    state.wait_for_everyone()  # no process may take a video of another for one of an earlier run
    own = jobs[state.process_index :: state.num_processes]
    for job in tqdm(own, desc="videos", disable=len(own) < 2 or not state.is_main_process):
        run_job(args, pipe, job, run)
    state.wait_for_everyone()
    if state.is_main_process:
        more = f" and {len(jobs) - 3} more" if len(jobs) > 3 else ""
        print(f"Written: {', '.join(str(job.video) for job in jobs[:3])}{more}")
    return [job.video for job in own]


def check_arguments(args, jobs: list[Job]) -> torch.device:
    """One sentence about what would fail after a long time; returns the device."""
    check_jobs(jobs, args.overwrite, args.fps)
    VideoSampling.from_args(args)
    check_num_frames(args.num_frames)
    if args.total_frames is None and (args.overlap_frames or args.long_video != "overlap"):
        raise ValueError("--overlap_frames and --long_video apply to long videos: pass --total_frames, or remove them.")
    adjust_frames(args.temporal_smoothing, args.motion_scale)
    for path in args.lora:
        check_lora(path, "train_svd.py", "--lora", flow=False)
    device = choose_device(args.device)
    check_offload(args.offload, device)
    layout = check_video_base(args, [job.image for job in jobs])
    if args.total_frames:
        num_frames = args.num_frames or layout.num_frames
        overlap = count_overlap(args.long_video, args.overlap_frames, num_frames)
        segment_starts(args.total_frames, num_frames, overlap)
    return device


def run_job(args, pipe, job: Job, run: Run) -> None:
    started = time.perf_counter()
    pixels = fit_image(pipe, read_image(job.image), args.height, args.width, str(job.image))
    warn_of_photograph(args.model_dir, pixels, str(job.image), "--model_dir")
    video = sample_long_video(
        pipe,
        pixels[None],
        args.total_frames or args.num_frames or pipe.unet.config.num_frames,
        args.long_video,
        args.overlap_frames,
        args.num_frames,
        decode_chunk_size=args.decode_chunk_size,
        temporal_smoothing=args.temporal_smoothing,
        motion_scale=args.motion_scale,
        generator=torch.Generator().manual_seed(job.seed),
        **VideoSampling.from_args(args).options(),
    )
    job.write(video.pixels[0], args.fps)
    (height, width), frames = video.pixels.shape[-2:], video.pixels.shape[1]
    facts = {"image": str(job.image), "seed": job.seed, "height": height, "width": width, "frames": frames}
    seconds = round(time.perf_counter() - started, 2)
    run.write(job.record, [job.video], **facts, segment_starts=video.starts, seconds=seconds)


if __name__ == "__main__":
    run_script(main)
