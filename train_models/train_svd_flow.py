"""Train a LoRA with which Stable Video Diffusion draws the optical flow that follows a picture: p(flow | first image).

python train_models/train_svd_flow.py --train_data_dir data/clips --output_dir outputs/svd_flow

Flow is encoded as pictures (`utils/flow/code.py`), whose latents are brought to mean 0 and deviation 1.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from pipelines.flow_adapter import FLOW_SAMPLING
from pipelines.pipeline_stable_video_diffusion import StableVideoDiffusionEDMPipeline
from utils.arguments import parse_args, positive_int, run_script
from utils.data.flow_clips import (
    add_flow_clip_arguments,
    check_flow_clip_arguments,
    make_flow_dataset,
    measure_flow_scale,
    read_flow_clips,
    read_held_out,
)
from utils.diffusion.edm import EDM, ConditionEncoder, Denoiser
from utils.flow.code import FlowCode
from utils.flow.pictures import FlowPicture
from utils.lora import add_lora, save_lora
from utils.training.flow_validation import sample_options, start_flow_validation
from utils.training.loop import add_training_arguments, check_output_dir, fit
from utils.training.svd import (
    add_base_arguments,
    add_condition_arguments,
    add_flow_arguments,
    check_condition_arguments,
    flow_loss,
    load_pipeline,
    read_buckets,
)


def main(argv=None) -> None:
    args = parse_args(make_parser(), argv)
    check_condition_arguments(args)
    check_flow_clip_arguments(args)
    code = FlowCode(FlowPicture(args.max_flow, args.flow_power))
    check_output_dir(args)
    clips = read_flow_clips(args)
    buckets = None if args.fixed_motion_bucket else read_buckets(args)
    held_out = read_held_out(clips, buckets, code, args)
    torch.manual_seed(args.seed)
    pipe = load_pipeline(args)
    parameters = add_lora(pipe.unet, args.rank, args.lora_alpha, args.lora_targets)
    dataset = make_flow_dataset(clips, pipe.vae, buckets, code, args)
    code = replace(code, scale=measure_flow_scale(dataset, pipe.vae, args.seed))
    encoder = ConditionEncoder(pipe.vae, pipe.image_encoder, pipe.feature_extractor)
    edm = EDM(args.sigma_mean, args.sigma_std)
    validate = make_validation(pipe, held_out, edm, code, args)

    def save(unet, folder: Path) -> None:
        training = vars(args) | code.to_training()
        save_lora(unet, folder, "default", args.pretrained_model_name_or_path, training, torch.float16)

    def loss(unet, batch):
        return flow_loss(unet, batch, encoder, edm, code, args)

    frozen = (pipe.vae, pipe.image_encoder)
    fit(args, pipe.unet, dataset, loss, save=save, validate=validate, parameters=parameters, frozen=frozen)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    group = parser.add_argument_group("model")
    add_base_arguments(group)
    group.add_argument("--rank", type=positive_int, default=32)
    group.add_argument("--lora_alpha", type=float, help="by default the rank")
    group.add_argument(
        "--lora_targets", default="all", help="temporal, spatial or all attention, or an expression in layer names"
    )
    add_flow_arguments(parser.add_argument_group("flow"))
    add_condition_arguments(parser.add_argument_group("noise and condition"))
    add_flow_clip_arguments(parser)
    add_training_arguments(parser)
    return parser


def make_validation(pipe, held_out: list[dict], edm, code, args):
    """Errors of the flow, and flow drawn without guidance."""
    drawing = StableVideoDiffusionEDMPipeline(**pipe.components)

    def errors(unet, mode, clean, noise, sigma, condition):
        return Denoiser(unet, edm).loss(clean, noise, sigma, condition)

    def draw(sample):
        options = sample_options(sample, args) | FLOW_SAMPLING | {"output_type": "latent"}
        latents = code.scale.denormalize(drawing(sample["image"][None], **options).frames)
        return None, code.to_flow(drawing.decode(latents, options["decode_chunk_size"]))[0]

    options = {"code": code, "errors": errors, "draw": draw, "modes": {"flow": (True,)}}
    return start_flow_validation(args, drawing, held_out, edm, **options)


if __name__ == "__main__":
    run_script(main)
