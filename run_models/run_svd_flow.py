"""Draws the optical flow that may follow a picture, by Stable Video Diffusion with a LoRA of train_svd_flow.py.

python run_models/run_svd_flow.py --lora outputs/svd_flow --input_image photo.png --output_dir outputs/flow

Writes flow_000.flo and on, one for each step, flow.png (the picture and its flow in Middlebury's colours) and flow.mp4.
"""

import argparse
from pathlib import Path

import torch

from pipelines.flow_adapter import FLOW_SAMPLING
from pipelines.pipeline_stable_video_diffusion import StableVideoDiffusionEDMPipeline
from pipelines.sizes import check_num_frames, fit_image
from utils.arguments import parse_args, positive_int, run_script
from utils.diffusion.sampling import VideoSampling, add_sampling_arguments
from utils.flow.code import FlowCode
from utils.flow.results import check_output_folder, write_flow_results
from utils.images import image_size, read_image
from utils.lora import load_lora, read_training
from utils.pretrained import DTYPES, check_device, loading
from utils.processes import process_state

REPOSITORY = Path(__file__).resolve().parent.parent


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument_group("files and machine").add_argument
    add("--model_dir", default=str(REPOSITORY / "weights/tiny_svd"), help="folder or hub name of the base")
    add("--lora", required=True, help="file or folder of train_svd_flow.py")
    add("--input_image", required=True)
    add("--output_dir", required=True)
    add("--overwrite", action="store_true", help="accept an output_dir with content")
    add("--device", help="by default the one that Accelerate gives to the process")
    add("--dtype", choices=DTYPES, default="float32")
    group = parser.add_argument_group("sampling")
    add_sampling_arguments(group, **FLOW_SAMPLING)
    add = group.add_argument
    add("--seed", type=int, default=0)
    add("--num_frames", type=positive_int, help="flows are one fewer; by default the model's")
    add("--height", type=positive_int)
    add("--width", type=positive_int, help="by default the picture's shape at the model's number of pixels")
    add("--decode_chunk_size", type=positive_int, help="frames decoded at once; by default all")
    return parser


def main(argv=None) -> list[Path]:
    """Runs the script and returns the files."""
    args = parse_args(make_parser(), argv)
    VideoSampling.from_args(args)
    check_num_frames(args.num_frames)
    check_output_folder(args.output_dir, args.overwrite)
    image_size(args.input_image)
    if args.device:
        check_device(args.device)
    code = FlowCode.from_training(read_training(args.lora))
    pipe = load_pipeline(args)
    pixels = fit_image(pipe, read_image(args.input_image), args.height, args.width, args.input_image)
    flow = draw_flow(pipe, pixels, code, args)
    files = write_flow_results(args.output_dir, flow, pixels, args.fps)
    print(f"Written: {len(flow)} flows, flow.png and flow.mp4 in {args.output_dir}")
    return files


def load_pipeline(args) -> StableVideoDiffusionEDMPipeline:
    with loading(args.model_dir):
        pipe = StableVideoDiffusionEDMPipeline.from_pretrained(args.model_dir, dtype=DTYPES[args.dtype])
    load_lora(pipe.unet, args.lora)
    return pipe.to(args.device or process_state().device)


def draw_flow(pipe, pixels: torch.Tensor, code: FlowCode, args) -> torch.Tensor:
    """Flow (F - 1, 2, H, W) in pixels that may follow the picture (3, H, W)."""
    options = VideoSampling.from_args(args).options() | {"generator": torch.Generator().manual_seed(args.seed)}
    latents = pipe(pixels[None], num_frames=args.num_frames, output_type="latent", **options).frames
    return code.to_flow(pipe.decode(code.scale.denormalize(latents), args.decode_chunk_size))[0]


if __name__ == "__main__":
    run_script(main)
