"""Samples a video between a first and a last frame, or through many keyframes, by Stable Video Diffusion.

python run_models/run_svd_trans.py --first a.png --last b.png --output_dir outputs/between
python run_models/run_svd_trans.py --first a.png --last b.png --adapter outputs/svd_trans --output_dir outputs
python run_models/run_svd_trans.py --keyframes a.png b.png c.png --loop --total_frames 48 --output_dir outputs/loop

With an adapter the network is conditioned on both frames. Without one, predictions of the base from both frames, in
both directions of time, are averaged. Writes video.mp4, frames.png (a contact sheet) and run.json.
"""

import argparse
from pathlib import Path

import torch

from models.unet_spatio_temporal_condition import check_masked_unet
from pipelines.memory import add_memory_arguments, check_offload, place, save_memory
from pipelines.pipeline_stable_video_diffusion_trans import StableVideoDiffusionTransPipeline
from pipelines.sizes import check_gap_frames
from pipelines.trans_adapter import add_adapter_arguments, choose_adapter
from pipelines.trans_images import check_shapes, fit_keyframes, list_keyframes
from pipelines.trans_keyframes import fill_keyframes, place_keyframes
from pipelines.video_commands import (
    GAP_FRAMES,
    add_base_argument,
    add_result_arguments,
    add_video_sampling,
    check_video_base,
    check_video_run,
)
from utils.arguments import filled, make_parser, parse_args, positive_int, run_script
from utils.commands.results import RECORD, Run, remove_last_run, write_png
from utils.diffusion.sampling import VideoSampling, check_guidance
from utils.messages.words import count
from utils.pretrained import choose_device, load_pipeline
from utils.video import contact_sheet, write_video
from utils.weights.embedded import warn_of_photograph


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    add = result.add_argument_group("inputs").add_argument
    add("--first", type=filled, help="first frame (default: the first of --keyframes)")
    add("--last", type=filled, help="last frame (default: the last of --keyframes)")
    passed = "images that the video passes through (default: --first, --last)"
    add("--keyframes", type=filled, nargs="+", metavar="PATH", help=passed)
    add("--loop", action="store_true", help="return to the first keyframe, so that the video can be repeated")
    add(
        "--total_frames",
        type=positive_int,
        help="frames of the video; a gap of more than --num_frames is halved (default: --num_frames a gap)",
    )
    group = result.add_argument_group("weights")
    add_base_argument(group)
    add_adapter_arguments(group)
    group = add_video_sampling(result, leave_out=("still_threshold",), frames=GAP_FRAMES)
    group.add_argument("--repeats", type=int, default=0, help="times that each step at middle noise levels is repeated")
    add_memory_arguments(result.add_argument_group("memory"))
    add_result_arguments(result)
    return result


def main(argv=None) -> list[Path]:
    """Runs the script and returns the files."""
    args = parse_args(parser(), argv)
    paths = list_keyframes(args.first, args.last, args.keyframes, args.loop)
    adapter = choose_adapter(args.model_dir, args.adapter, args.training_free)
    check(args, paths, adapter)
    run = Run.start(argv, vars(args) | {"adapter": adapter}, [args.model_dir, adapter])
    pipe = load(args.model_dir, adapter, args.dtype)
    save_memory(pipe, args.forward_chunking, args.vae_slicing, args.vae_tiling)
    place(pipe, args.offload, choose_device(args.device))
    keyframes = fit_keyframes(pipe, paths, args.height, args.width)
    warn_of_photograph(args.model_dir, keyframes[0], paths[0], "--model_dir")
    video = sample(pipe, keyframes, args)
    folder = Path(args.output_dir)
    files = [folder / "video.mp4", write_png(folder / "frames.png", contact_sheet(video))]
    write_video(files[0], video, args.fps)
    remove_last_run(folder, kept=files)
    run.write(folder / RECORD, files, frames=len(video), height=video.shape[-2], width=video.shape[-1])
    print(f"Written: video.mp4 of {count(len(video), 'frame')} and frames.png in {folder}")
    return files


def check(args, paths: list[str], adapter: str | None) -> None:
    """One sentence about what would fail after a long time."""
    check_video_run(args, paths)
    check_guidance(parser(), args, VideoSampling.from_args(args))
    check_offload(args.offload, choose_device(args.device))
    check_shapes(paths, cropped=bool(args.height and args.width))
    if adapter:
        check_masked_unet(adapter)
    check_gap_frames(args.num_frames)
    if args.total_frames is not None:
        place_keyframes(len(paths), args.total_frames + args.loop)
    if args.repeats < 0:
        raise ValueError(f"--repeats {args.repeats} is negative: pass 0 or more.")
    check_video_base(args, paths[:1])


def load(base: str, adapter: str | None, dtype: str = "float32") -> StableVideoDiffusionTransPipeline:
    """The pipeline of a base, with an adapter of `train_svd_trans.py`, or None for the training-free way."""
    pipe = load_pipeline(StableVideoDiffusionTransPipeline, base, dtype, "--model_dir")
    if adapter:
        pipe.load_adapter(adapter)
    return pipe


def sample(pipe, keyframes: list[torch.Tensor], args, **more) -> torch.Tensor:
    """The video of parsed arguments; `more` go to the pipeline."""
    most = args.num_frames or pipe.unet.config.num_frames
    total = args.total_frames + args.loop if args.total_frames else (most - 1) * (len(keyframes) - 1) + 1
    options = VideoSampling.from_args(args).options() | {"repeats": args.repeats, **more}
    options |= {"generator": torch.Generator().manual_seed(args.seed), "decode_chunk_size": args.decode_chunk_size}
    video = sample_between(pipe, keyframes, total, most, **options)
    return video[:-1] if args.loop else video


def sample_between(pipe, keyframes: list[torch.Tensor], total_frames: int, most: int, **options) -> torch.Tensor:
    """A video (total_frames, 3, H, W) in [-1, 1] through keyframes, of gaps of at most `most` frames.

    Args:
        options: Further arguments of the pipeline.
    """

    def sample(first: torch.Tensor, last: torch.Tensor, num_frames: int) -> torch.Tensor:
        out = pipe(first[None], last[None], num_frames=num_frames, output_type="pt", **options)
        return out.frames[0].cpu().float() * 2 - 1

    return fill_keyframes(sample, keyframes, total_frames, most)


if __name__ == "__main__":
    run_script(main)
