"""Samples the optical flow that may follow an image, by Stable Video Diffusion with a LoRA of flow.

python run_models/run_svd_flow.py --input_image photo.png --output_dir outputs/flow

Writes flow_000.flo and on, one for each step, flow.png (the image and its flow in Middlebury's colours), flow.mp4 and
run.json.
"""

import argparse
from pathlib import Path

import torch

from pipelines.flow_adapter import FLOW_ALONE, FlowAdapter
from pipelines.pipeline_stable_video_diffusion import StableVideoDiffusionEDMPipeline
from pipelines.sizes import fit_image
from pipelines.video_commands import (
    add_base_argument,
    add_result_arguments,
    add_video_sampling,
    check_video_base,
    check_video_run,
)
from utils.arguments import filled, make_parser, run_script
from utils.commands.results import RECORD, Run, remove_last_run
from utils.diffusion.sampling import VideoSampling, parse_sampling_args
from utils.flow.code import FlowCode
from utils.flow.results import write_flow_results
from utils.images import read_image
from utils.messages.words import count
from utils.pretrained import choose_device, load_pipeline, shipped
from utils.weights.embedded import warn_of_photograph
from utils.weights.lora import load_lora


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    result.epilog = "A joint adapter has guidance by default, in all frames alike and away from motion bucket 0."
    group = result.add_argument_group("weights and image")
    add_base_argument(group)
    lora = "file or folder of train_svd_flow.py, or of train_flow_video.py with --flow_alone_share above 0"
    group.add_argument("--lora", type=filled, default=shipped("flow_video"), help=lora)
    group.add_argument("--input_image", type=filled, required=True, help="first frame")
    add_video_sampling(result, leave_out=("still_threshold",), **FLOW_ALONE)
    add_result_arguments(result)
    return result


def main(argv=None) -> list[Path]:
    """Runs the script and returns the files."""
    args = parse_sampling_args(parser(), argv, own_sampling)
    check_video_run(args, [args.input_image])
    check_video_base(args, [args.input_image])
    code, run = read_adapter(args).code, Run.start(argv, vars(args), [args.model_dir, args.lora])
    pipe = load_pipeline(StableVideoDiffusionEDMPipeline, args.model_dir, args.dtype, "--model_dir")
    load_lora(pipe.unet, args.lora)
    pipe.to(choose_device(args.device))
    pixels = fit_image(pipe, read_image(args.input_image), args.height, args.width, args.input_image)
    warn_of_photograph(args.model_dir, pixels, args.input_image, "--model_dir")
    options = VideoSampling.from_args(args).options() | {"num_frames": args.num_frames}
    flow = sample_flow(pipe, pixels, code, args.seed, args.decode_chunk_size, **options)
    files = write_flow_results(args.output_dir, flow, pixels, args.fps)
    remove_last_run(args.output_dir, kept=files)
    run.write(Path(args.output_dir) / RECORD, files, height=flow.shape[-2], width=flow.shape[-1])
    print(f"Written: {count(len(flow), 'flow')}, flow.png and flow.mp4 in {args.output_dir}")
    return files


def read_adapter(args) -> FlowAdapter:
    return FlowAdapter.alone(args.lora, "--lora")


def own_sampling(args) -> dict:
    return read_adapter(args).sampling_alone


def sample_flow(
    pipe, pixels: torch.Tensor, code: FlowCode, seed: int, decode_chunk_size: int | None = None, **options
) -> torch.Tensor:
    """Flow (F - 1, 2, H, W) in pixels that may follow an image, pixels (3, H, W) in [-1, 1].

    Args:
        code: How the LoRA encodes flow, read from its file.
        options: Further arguments of the pipeline.
    """
    generator = torch.Generator().manual_seed(seed)
    latents = pipe(pixels[None], output_type="latent", generator=generator, **options).frames
    return code.to_flow(pipe.decode(code.scale.denormalize(latents), decode_chunk_size))[0]


if __name__ == "__main__":
    run_script(main)
