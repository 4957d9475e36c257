"""Train a LoRA with which Stable Video Diffusion samples the optical flow of a first frame: p(flow | first frame).

python train_models/train_svd_flow.py --train_data_dir data/clips --output_dir outputs/svd_flow

Flow is encoded as images (`utils/flow/code.py`), whose latents are brought to mean 0 and deviation 1.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from pipelines.flow_adapter import FLOW_SAMPLING
from pipelines.pipeline_stable_video_diffusion import StableVideoDiffusionEDMPipeline
from utils.arguments import parse_args, run_script
from utils.data.flow_images import FlowImages
from utils.diffusion.edm import Denoiser
from utils.flow.code import FlowCode
from utils.flow.images import FlowEncoding
from utils.training.flow_losses import flow_loss, measure_flow_scale
from utils.training.flow_validation import flow_errors, show_flow
from utils.training.svd import start_svd
from utils.training.svd_arguments import add_flow_arguments, add_lora_arguments, svd_parser
from utils.training.validation import sample_options
from utils.weights.lora import add_lora, save_lora


def main(argv=None) -> None:
    args = parse_args(make_parser(), argv)
    code = FlowCode(FlowEncoding(args.max_flow, args.flow_power))
    svd = start_svd(args, [FlowImages(code)], StableVideoDiffusionEDMPipeline)
    parameters = add_lora(svd.pipe.unet, args.rank, args.lora_alpha, args.lora_targets)
    code = replace(code, scale=measure_flow_scale(svd.dataset, svd.pipe.vae, args.seed))

    def loss(unet, batch):
        return flow_loss(unet, batch, svd.encoder, svd.edm, code, args)

    def save(unet, folder: Path) -> Path:
        training = vars(args) | code.to_training()
        return save_lora(unet, folder, "default", args.pretrained_model_name_or_path, training, torch.float16)

    def errors(unet, mode, clean, noise, sigma, condition):
        return Denoiser(unet, svd.edm).loss(clean, noise, sigma, condition)

    def sample_flow(sample: dict):
        options = sample_options(sample, args) | FLOW_SAMPLING | {"output_type": "latent"}
        latents = code.scale.denormalize(svd.pipe(sample["image"][None], **options).frames)
        return None, code.to_flow(svd.pipe.decode(latents, options["decode_chunk_size"]))[0]

    measure, show = flow_errors(code, errors, {"flow": (True,)}), show_flow(code, sample_flow)
    svd.fit(loss, save=save, parameters=parameters, measure=measure, show=show)


def make_parser() -> argparse.ArgumentParser:
    parser = svd_parser(__doc__, steady=True)
    group = parser.add_argument_group("flow")
    add_lora_arguments(group, rank=32, targets="all")
    add_flow_arguments(group)
    return parser


if __name__ == "__main__":
    run_script(main)
