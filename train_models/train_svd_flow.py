"""Train a LoRA with which Stable Video Diffusion samples the optical flow of a first frame: p(flow | first frame).

python train_models/train_svd_flow.py --train_data_dir data/clips --output_dir outputs/svd_flow
python train_models/train_svd_flow.py --objective one_step --train_data_dir data/clips --output_dir outputs/one_step

With --objective one_step it estimates the flow of a whole video instead, in one deterministic step.

Flow is encoded as images (`utils/flow/code.py`), whose latents are brought to mean 0 and deviation 1.
"""

import argparse
import math
from dataclasses import replace
from pathlib import Path

from pipelines.flow_adapter import ESTIMATION, FLOW_ALONE, FlowAdapter
from pipelines.pipeline_stable_video_diffusion import StableVideoDiffusionEDMPipeline
from pipelines.pipeline_stable_video_diffusion_joint import StableVideoDiffusionJointPipeline
from utils.arguments import check_choice, parse_args, run_script
from utils.data.flow_images import FlowImages
from utils.diffusion.edm import Denoiser
from utils.diffusion.one_step import DENOISING, ONE_STEP, first_sigma
from utils.flow.code import FlowCode
from utils.flow.images import FlowEncoding
from utils.training.flow_losses import flow_loss, measure_flow_scale, one_step_loss
from utils.training.flow_validation import flow_errors, show_flow
from utils.training.resume import kept_scale
from utils.training.svd import SVDTraining, start_svd
from utils.training.svd_arguments import add_flow_arguments, add_lora_arguments, svd_parser
from utils.training.validation import Measure, Show, sample_options
from utils.weights.lora import add_lora, begin_lora, read_training, save_lora
from utils.weights.model_kinds import check_lora, joint_names
from utils.weights.rounding import add_save_dtype_argument, save_dtype

SAMPLING_ALONE = (
    "sigma_mean", "sigma_std", "conditioning_dropout_prob", "motion_buckets", "noise_aug_mean", "noise_aug_std",
    "num_inference_steps",
)  # fmt: skip
READ_BY = dict.fromkeys(SAMPLING_ALONE, (DENOISING,))


def main(argv=None) -> None:
    args = parse_args(make_parser(), argv)
    check_choice(make_parser(), args, "objective", {}, READ_BY)
    if one_step := args.objective == ONE_STEP:
        args.fixed_motion_bucket, args.conditioning_dropout_prob = True, 0.0
        args.noise_aug_mean, args.noise_aug_std = math.log(ESTIMATION.noise_aug_strength), 0.0
    code = begin_code(args)
    pipeline = StableVideoDiffusionJointPipeline if one_step else StableVideoDiffusionEDMPipeline
    svd = start_svd(args, [FlowImages(code)], pipeline)
    parameters = add_lora(svd.pipe.unet, args.rank, args.lora_alpha, args.lora_targets)
    if args.init_adapter:
        begin_lora(svd.pipe.unet, args.init_adapter)
    else:
        code = replace(code, scale=kept_scale(args) or measure_flow_scale(svd.dataset, svd.pipe.vae, args.seed))
    sigma = first_sigma(svd.pipe.scheduler)

    def loss(unet, batch):
        if one_step:
            return one_step_loss(unet, batch, svd.encoder, svd.edm, code, args, sigma)
        return flow_loss(unet, batch, svd.encoder, svd.edm, code, args)

    def save(unet, folder: Path) -> Path:
        training, dtype = vars(args) | code.to_training(), save_dtype(args, parameters)
        return save_lora(unet, folder, "default", args.pretrained_model_name_or_path, training, dtype)

    measure, show = (None, show_estimates(svd, code)) if one_step else validate_sampling(svd, code)
    keep = {"latent_scale": vars(code.scale)}
    svd.fit(loss, save=save, parameters=parameters, measure=measure, show=show, keep=keep)


def begin_code(args) -> FlowCode:
    """How flow is encoded: by the flags, or as it was for the weights of --init_adapter.

    Raises:
        ValueError: These are not of flow, or a flag contradicts them.
    """
    encoding = FlowEncoding(args.max_flow, args.flow_power)
    if args.init_adapter is None:
        return FlowCode(encoding)
    if args.lora_alpha is not None:
        raise ValueError(
            f"--lora_alpha {args.lora_alpha:g} needs a new LoRA: --init_adapter has a scale of its own; remove one."
        )
    if not joint_names(args.init_adapter):
        trained_by = "train_svd_flow.py, or a joint adapter of train_flow_video.py,"
        check_lora(args.init_adapter, trained_by, "--init_adapter", flow=True)
    code = FlowCode.from_training(read_training(args.init_adapter))
    if code.encoding != encoding:
        raise ValueError(
            f"--max_flow {args.max_flow:g} and --flow_power {args.flow_power:g} are not those of {args.init_adapter}: "
            f"pass {code.encoding.max_flow:g} and {code.encoding.power:g}."
        )
    return code


def show_estimates(svd: SVDTraining, code: FlowCode) -> Show:
    """Flow of held-out clips, estimated as the pipeline does."""
    svd.pipe.flow_adapter = FlowAdapter(ONE_STEP, code, lora=True, one_step=True)

    def estimate(sample: dict):
        chunk = sample_options(sample, svd.args)["decode_chunk_size"]
        out = svd.pipe(sample["image"][None], sample["pixel_values"][None], output_type="pt", decode_chunk_size=chunk)
        return None, out.flows[0]

    return show_flow(code, estimate)


def validate_sampling(svd: SVDTraining, code: FlowCode) -> tuple[Measure, Show]:
    """Errors of v of flow from the first frame, and such flow sampled."""

    def errors(unet, mode, clean, noise, sigma, condition):
        return Denoiser(unet, svd.edm).loss(clean, noise, sigma, condition)

    def sample_flow(sample: dict):
        options = sample_options(sample, svd.args) | FLOW_ALONE | {"output_type": "latent"}
        latents = code.scale.denormalize(svd.pipe(sample["image"][None], **options).frames)
        return None, code.to_flow(svd.pipe.decode(latents, options["decode_chunk_size"]))[0]

    return flow_errors(code, errors, {"flow": (True,)}), show_flow(code, sample_flow)


def make_parser() -> argparse.ArgumentParser:
    parser = svd_parser(__doc__, steady=True)
    group = parser.add_argument_group("flow")
    add_lora_arguments(group, rank=32, targets="all")
    add_flow_arguments(group)
    add = group.add_argument
    what = f"{DENOISING} of the flow of a first frame, or estimation of a video's flow in one step (arXiv 2409.11355)"
    add("--objective", choices=(DENOISING, ONE_STEP), default=DENOISING, help=what)
    begun = (
        "begin with this LoRA of flow, or with the flow's LoRAs of this joint adapter of train_flow_video.py; larger"
    )
    add("--init_adapter", help=f"{begun} ranks are cut to --rank (default: a new LoRA)")
    add_save_dtype_argument(group)
    return parser


if __name__ == "__main__":
    run_script(main)
