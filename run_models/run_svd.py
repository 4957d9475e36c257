"""Draws videos that begin with pictures, by Stable Video Diffusion.

python run_models/run_svd.py --input_image photo.png --output_video outputs/photo.mp4
python run_models/run_svd.py --input_image photos/ --output_video outputs/videos --fps 8 --motion_bucket_id 60
python run_models/run_svd.py --input_image photo.png --output_video outputs/long.mp4 --total_frames 32
accelerate launch --num_processes 2 run_models/run_svd.py --input_image photos/ --output_video outputs/videos

On CPUs the last line begins with torchrun --nproc_per_node 2.
"""

import argparse
import json
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import diffusers
import torch
from tqdm.auto import tqdm

from pipelines.adjustments import adjust_frames
from pipelines.long_video import WAYS, count_overlap, sample_long_video, segment_starts
from pipelines.pipeline_stable_video_diffusion import StableVideoDiffusionEDMPipeline
from pipelines.sizes import check_num_frames, check_size, fit_image
from utils.arguments import positive_int, run_script
from utils.diffusion.sampling import VideoSampling, add_sampling_arguments, parse_sampling_args
from utils.files import check_name, replacing
from utils.folders import IMAGE_SUFFIXES, list_files
from utils.images import image_size, read_image
from utils.lora import load_lora
from utils.pretrained import DTYPES, check_device, loading
from utils.processes import process_state
from utils.video import VIDEO_SUFFIXES, write_gif, write_video

REPOSITORY = Path(__file__).resolve().parent.parent
WRITERS = {".mp4": write_video, ".gif": write_gif}
OFFLOADS = ("none", "model", "sequential", "group")


@dataclass(frozen=True)
class Job:
    """One picture, the file of its video, and the seed of its noise."""

    image: Path
    video: Path
    seed: int

    @property
    def record(self) -> Path:
        return self.video.with_name(f"{self.video.name}.json")


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    _add_files(result.add_argument_group("files"))
    _add_sampling(result.add_argument_group("sampling"))
    _add_frames(result.add_argument_group("frames"))
    _add_machine(result.add_argument_group("memory and machine"))
    return result


def _add_files(group) -> None:
    add = group.add_argument
    add("--model_dir", default=str(REPOSITORY / "weights/tiny_svd"), help="folder or hub name")
    add("--lora", nargs="+", default=[], metavar="PATH", help="adapters of train_svd.py, all active")
    add("--input_image", nargs="+", required=True, metavar="PATH", help="pictures, and folders of pictures")
    add("--output_video", required=True, help="an .mp4 or .gif, or a folder that gets one .mp4 for each picture")
    add("--overwrite", action="store_true", help="replace videos that exist")


def _add_sampling(group) -> None:
    add_sampling_arguments(group)
    add = group.add_argument
    add(
        "--temporal_smoothing",
        type=float,
        default=0.0,
        help="low-pass over frames: 0 none, 1 removes flicker and detail",
    )
    add("--motion_scale", type=float, default=1.0, help="how far frames move away from the first, times this")
    add("--seed", type=int, default=0, help="of the first picture; the k-th has seed + k, on any number of processes")


def _add_frames(group) -> None:
    add = group.add_argument
    add("--height", type=positive_int)
    add(
        "--width",
        type=positive_int,
        help="by default the picture's shape at as many pixels as the model's own size has",
    )
    add("--num_frames", type=positive_int, help="of a segment; by default the model's")
    add("--total_frames", type=positive_int, help="of a long video, made of several segments")
    add("--long_video", choices=WAYS, default="overlap", help="how a segment carries on")
    add("--overlap_frames", type=positive_int, help="frames that segments share; by default a quarter of a segment")


def _add_machine(group) -> None:
    add = group.add_argument
    add("--decode_chunk_size", type=positive_int, help="frames decoded at once; by default all of a segment")
    add(
        "--offload",
        choices=OFFLOADS,
        default="none",
        help="what waits in main memory: model by model, layer by layer, …",
    )
    add("--forward_chunking", type=positive_int, metavar="ROWS", help="feed-forward layers take so many rows at once")
    add("--vae_slicing", action="store_true", help="for VAEs that have it")
    add("--vae_tiling", action="store_true", help="for VAEs that have it")
    add("--device", help="by default the one that Accelerate gives to the process")
    add("--dtype", choices=DTYPES, default="float32")


def main(argv=None) -> list[Path]:
    """Runs the script and returns the videos that this process wrote."""
    args = parse_sampling_args(parser(), argv)
    jobs = list_jobs(args)
    check_arguments(args, jobs)
    state = process_state()
    device = torch.device(args.device or state.device)
    if args.offload != "none" and device.type == "cpu":
        raise ValueError(f"--offload {args.offload} is for an accelerator: on the CPU nothing is to be moved.")
    pipe = load_pipeline(args, device)
    check_frames(args, pipe)
    state.wait_for_everyone()  # no process may take a video of another for one of an earlier run
    own = jobs[state.process_index :: state.num_processes]
    for job in tqdm(own, desc="videos", disable=len(own) < 2 or not state.is_main_process):
        run_job(args, pipe, job)
    state.wait_for_everyone()
    if state.is_main_process:
        more = f" and {len(jobs) - 3} more" if len(jobs) > 3 else ""
        print(f"Written: {', '.join(str(job.video) for job in jobs[:3])}{more}")
    return [job.video for job in own]


def list_jobs(args) -> list[Job]:
    """What is to be made, in the order of the command line, folders by name."""
    images = [image for path in args.input_image for image in list_images(Path(path))]
    target = Path(args.output_video)
    if target.suffix.lower() in WRITERS:
        if len(images) != 1:
            raise ValueError(f"--output_video {target} is one file for {len(images)} pictures: name a folder.")
        return [Job(images[0], target, args.seed)]
    if target.suffix.lower() in VIDEO_SUFFIXES:
        raise ValueError(f"--output_video {target} is neither a folder nor an .mp4 or .gif.")
    jobs = [Job(image, target / f"{image.stem}.mp4", args.seed + k) for k, image in enumerate(images)]
    counts = Counter(job.video for job in jobs)
    if twice := [job for job in jobs if counts[job.video] > 1]:
        raise ValueError(f"{twice[0].image} and {twice[1].image} would become videos of one name: rename one.")
    return jobs


def list_images(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    images = list_files(path, IMAGE_SUFFIXES)
    if not images:
        raise FileNotFoundError(f"There is no picture in --input_image {path}.")
    return images


def check_arguments(args, jobs: list[Job]) -> None:
    """One sentence about what would fail after a long time."""
    for job in jobs:
        check_files(job, args.overwrite)
    VideoSampling.from_args(args)
    check_num_frames(args.num_frames)
    if args.total_frames is None and (args.overlap_frames or args.long_video != "overlap"):
        raise ValueError("--overlap_frames and --long_video are for long videos: pass --total_frames.")
    adjust_frames(args.temporal_smoothing, args.motion_scale)
    if args.device:
        check_device(args.device)


def check_files(job: Job, overwrite: bool) -> None:
    if not job.image.is_file():
        raise FileNotFoundError(f"There is no image {job.image}.")
    image_size(job.image)
    folder = next(path for path in job.video.absolute().parents if path.exists())
    if not folder.is_dir():
        raise FileExistsError(f"{folder} is a file: choose another --output_video.")
    for path in (job.video, job.record):
        check_name(path)
        if path.is_dir() or (path.exists() and not overwrite):
            remedy = "choose another --output_video" if path.is_dir() else "choose another or pass --overwrite"
            raise FileExistsError(f"{path} exists: {remedy}.")


def check_frames(args, pipe) -> None:
    if args.total_frames:
        num_frames = args.num_frames or pipe.unet.config.num_frames
        overlap = count_overlap(args.long_video, args.overlap_frames, num_frames)
        segment_starts(args.total_frames, num_frames, overlap)
    check_size(pipe, args.height, args.width)


def load_pipeline(args, device: torch.device) -> StableVideoDiffusionEDMPipeline:
    with loading(args.model_dir):
        pipe = StableVideoDiffusionEDMPipeline.from_pretrained(args.model_dir, dtype=DTYPES[args.dtype])
    for index, path in enumerate(args.lora):
        load_lora(pipe.unet, path, f"lora_{index}")
    save_memory(args, pipe)
    place(pipe, args.offload, device)
    pipe.set_progress_bar_config(disable=not process_state().is_main_process, leave=False)
    return pipe


def save_memory(args, pipe) -> None:
    if args.forward_chunking:
        pipe.unet.enable_forward_chunking(args.forward_chunking)
    for name in ("slicing", "tiling"):
        if getattr(args, f"vae_{name}"):
            try:
                getattr(pipe.vae, f"enable_{name}")()
            except NotImplementedError as error:
                raise ValueError(
                    f"--vae_{name}: {type(pipe.vae).__name__} has none, take a smaller --decode_chunk_size."
                ) from error


def place(pipe, offload: str, device: torch.device) -> None:
    """Onto the device, now or part by part while it runs."""
    if offload == "none":
        pipe.to(device)
    elif offload == "model":
        pipe.enable_model_cpu_offload(device=device)
    elif offload == "sequential":
        pipe.enable_sequential_cpu_offload(device=device)
    else:
        pipe.enable_group_offload(onload_device=device, offload_type="leaf_level")


def run_job(args, pipe, job: Job) -> None:
    started = time.perf_counter()
    pixels = fit_image(pipe, read_image(job.image), args.height, args.width, str(job.image))
    video = sample_long_video(
        pipe,
        pixels[None],
        args.total_frames or args.num_frames or pipe.unet.config.num_frames,
        args.long_video,
        args.overlap_frames,
        args.num_frames,
        args.decode_chunk_size,
        args.temporal_smoothing,
        args.motion_scale,
        generator=torch.Generator().manual_seed(job.seed),
        **VideoSampling.from_args(args).options(),
    )
    WRITERS[job.video.suffix.lower()](job.video, video.pixels[0], args.fps)
    write_record(args, job, video, time.perf_counter() - started)


def write_record(args, job: Job, video, seconds: float) -> None:
    H, W = video.pixels.shape[-2:]
    record = {"arguments": vars(args), "image": str(job.image), "seed": job.seed, "height": H, "width": W}
    record |= {"frames": video.pixels.shape[1], "segment_starts": video.starts, "seconds": round(seconds, 2)}
    record |= {"versions": {"torch": torch.__version__, "diffusers": diffusers.__version__}}
    with replacing(job.record) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    run_script(main)
