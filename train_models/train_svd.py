"""Fine-tune Stable Video Diffusion on clips: its temporal layers, a LoRA, all of it, or what a pattern names.

python train_models/train_svd.py --train_data_dir data/clips --output_dir outputs/svd --trainable lora

The loss is the squared error of v at one noise level a clip (`utils/diffusion/edm.py`). With `--flow_consistency_weight` the
estimate of the clean latents is also compared with itself, each frame with the next one warped back along the clip's
flow, where that is visible. It is latents that are compared, not decoded frames; and at noise level sigma that counts
1 / (1 + sigma²), the estimate there being a mean over many futures.
"""

import argparse
from pathlib import Path

import torch

from utils.arguments import parse_args, positive_int, run_script
from utils.data.cache import add_cache_arguments
from utils.data.clip_latents import CachedClips, Stretches, cache_clips
from utils.data.svd_clips import SVDClips
from utils.data.video_arguments import add_video_arguments, read_video_dataset
from utils.data.videos import VideoDataset, has_flow
from utils.diffusion.edm import EDM, ConditionEncoder, Denoiser
from utils.flow.consistency import flow_consistency
from utils.lora import add_lora, save_lora
from utils.motion_helper import PROCEDURAL
from utils.processes import process_state
from utils.training.checkpoints import find_checkpoint
from utils.training.loop import add_training_arguments, check_output_dir, fit
from utils.training.parameters import choose_parameters
from utils.training.svd import (
    add_base_arguments,
    add_condition_arguments,
    check_condition_arguments,
    draw_condition,
    encode_clips,
    load_pipeline,
    read_buckets,
)
from utils.training.validation import Validation


def main(argv=None) -> None:
    args = parse_args(make_parser(), argv)
    check(args)
    check_output_dir(args)
    buckets = None if args.fixed_motion_bucket else read_buckets(args)
    clips, shown = read_clips(args), read_validation(args, buckets)
    torch.manual_seed(args.seed)
    pipe = load_pipeline(args)
    parameters = make_trainable(pipe.unet, args)
    dataset = make_dataset(clips, pipe.vae, buckets, args)
    encoder = ConditionEncoder(pipe.vae, pipe.image_encoder, pipe.feature_extractor)
    edm = EDM(args.sigma_mean, args.sigma_std)
    validate = make_validation(pipe, shown, edm, args)

    def save(unet, folder):
        if buckets:
            buckets.save(folder)
        if args.trainable == "lora":
            save_lora(unet, folder, "default", args.pretrained_model_name_or_path, vars(args), torch.float16)
        else:
            save_pipeline(pipe, folder)

    def loss(unet, batch):
        return svd_loss(unet, batch, encoder, edm, args)

    frozen = (pipe.vae, pipe.image_encoder)
    fit(args, pipe.unet, dataset, loss, save=save, validate=validate, parameters=parameters, frozen=frozen)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_arguments(parser.add_argument_group("model"))
    condition = parser.add_argument_group("noise and condition")
    add_condition_arguments(condition)
    condition.add_argument(
        "--flow_consistency_weight", type=float, default=0.0, help="of the loss between warped neighbouring frames"
    )
    add = parser.add_argument_group("stretches and validation").add_argument
    add("--frame_strides", type=positive_int, nargs="+", default=[1], help="one is drawn for each sample; fps follows")
    add("--random_reverse", action="store_true", help="half of the samples run backwards")
    add("--clip_frames", type=positive_int, help="frames of each clip that --cache_latents keeps; default: one stretch")
    add("--validation_data_dir", help="as --train_data_dir; loss and videos of clips that are not trained on")
    add(
        "--held_out_frames",
        type=positive_int,
        help="validate on the last frames of each clip, and do not train on them",
    )
    add("--num_validation_samples", type=positive_int, default=4, help="clips to validate on, the first ones")
    add("--num_inference_steps", type=positive_int, default=25, help="of the validation videos")
    add_video_arguments(parser, num_frames=8, height=64, width=64)
    add_cache_arguments(parser)
    add_training_arguments(parser, gradient_checkpointing=True, learning_rate=3e-5)
    return parser


def add_model_arguments(group) -> None:
    add_base_arguments(group)
    add = group.add_argument
    add("--trainable", choices=["temporal", "all", "lora", "regex"], default="temporal")
    add("--trainable_pattern", help="regular expression in parameter names, for --trainable regex")
    add("--rank", type=positive_int, default=16, help="of the LoRA")
    add("--lora_alpha", type=float, help="by default the rank")
    add(
        "--lora_targets", default="temporal", help="temporal, spatial or all attention, or an expression in layer names"
    )


def svd_loss(unet, batch, encoder, edm, args):
    """||F - v||² at one noise level a clip. The encoder draws the noise on the image, which is another one."""
    x_0 = encode_clips(batch, encoder.vae)
    B, F = x_0.shape[:2]
    condition = draw_condition(batch, F, encoder, args)
    sigma = edm.draw_sigmas(B).to(x_0.device)
    error, estimate = Denoiser(unet, edm).loss_and_estimate(x_0, torch.randn_like(x_0), sigma, condition)
    loss = error.mean()
    if not args.flow_consistency_weight:
        return loss
    differences = flow_consistency(estimate, batch["flow"], batch["visible"])
    penalty = (differences / (1 + sigma.square())).mean()
    return loss + args.flow_consistency_weight * penalty, {"flow_consistency": penalty}


def make_trainable(unet, args) -> list:
    """The parameters to train, in float32."""
    if args.trainable == "lora":
        return add_lora(unet, args.rank, args.lora_alpha, args.lora_targets)
    return choose_parameters(unet, args.trainable, args.trainable_pattern)


def read_clips(args) -> VideoDataset:
    """Whole clips to be cached, or stretches of them, with their annotated flow where it is wanted and fits."""
    held_out = {"held_out_frames": args.held_out_frames or 0}
    if args.cache_latents:
        frames = args.clip_frames or longest_stretch(args)
        whole = argparse.Namespace(**{**vars(args), "num_frames": frames, "first_frames": True})
        return read_video_dataset(whole, **held_out)
    strides = tuple(args.frame_strides)
    clips = read_video_dataset(args, frame_strides=strides, random_reverse=args.random_reverse, **held_out)
    if args.flow_consistency_weight and has_flow(clips.records, clips.options):
        return VideoDataset(clips.records, clips.options, ("flow",), args.skip_bad_clips)
    return clips


def longest_stretch(args) -> int:
    return (args.num_frames - 1) * max(args.frame_strides) + 1


def make_dataset(clips: VideoDataset, vae, buckets, args) -> SVDClips:
    with_flow = args.flow_consistency_weight > 0
    if args.cache_latents:
        folder = cache_clips(clips, vae, args.cache_dir, buckets or PROCEDURAL)
        stretches = Stretches(args.num_frames, args.frame_strides, args.random_reverse)
        clips = CachedClips(folder, stretches, buckets or PROCEDURAL, with_pixels=with_flow)
    return SVDClips(clips, buckets, with_flow)


def read_validation(args, buckets) -> list:
    """Samples to validate on: the first stretches of clips of their own, or the frames held out of the training's."""
    if not (args.validation_data_dir or args.held_out_frames):
        return []
    changes = {
        "train_data_dir": args.validation_data_dir or args.train_data_dir, "flow_dir": None,
        "max_train_samples": args.num_validation_samples, "center_crop": True, "first_frames": True, "random_flip": False,
    }  # fmt: skip
    fields = {"frame_strides": (args.frame_strides[0],), "held_out_frames": args.held_out_frames or 0}
    clips = read_video_dataset(argparse.Namespace(**{**vars(args), **changes}), **fields)
    draw = clips.held_out if args.held_out_frames else clips.draw
    samples = SVDClips([draw(index) for index in range(len(clips))], buckets)
    return [samples[index] for index in range(len(samples))]


def make_validation(pipe, shown, edm, args) -> Validation | None:
    if not shown:
        return None
    folder = Path(args.output_dir) / "validation"
    validation = Validation(pipe, shown, edm, folder, args.num_inference_steps, args.seed)
    if find_checkpoint(args) is None and process_state().is_main_process:
        pipe.to(process_state().device)
        validation.measure_start(pipe.unet)
    return validation


def save_pipeline(pipe, folder) -> None:
    """A folder that diffusers loads: float16, but for the image encoder, which transformers loads in its file's type."""
    for network in (pipe.vae, pipe.unet):
        network.half()
    pipe.save_pretrained(folder)


def check(args) -> None:
    check_condition_arguments(args)
    if args.flow_consistency_weight < 0:
        raise ValueError(f"--flow_consistency_weight {args.flow_consistency_weight} is negative.")
    if (args.trainable == "regex") != (args.trainable_pattern is not None):
        raise ValueError("--trainable regex and --trainable_pattern belong together.")
    if args.num_frames < 2 and not (args.fixed_motion_bucket and args.flow_consistency_weight == 0):
        raise ValueError(f"--num_frames {args.num_frames}: motion needs 2 frames; or pass --fixed_motion_bucket.")
    if args.held_out_frames and args.validation_data_dir:
        raise ValueError("--held_out_frames and --validation_data_dir are two ways to validate; choose one.")
    needed = (longest_stretch(args) - 1) * args.frame_stride + 1
    if args.held_out_frames and args.held_out_frames < needed:
        raise ValueError(f"--held_out_frames {args.held_out_frames} has no room for a stretch of {needed}.")
    if args.clip_frames and not args.cache_latents:
        raise ValueError("--clip_frames is of --cache_latents; without it stretches come from all frames.")


if __name__ == "__main__":
    run_script(main)
