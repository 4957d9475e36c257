"""Train a ControlNet with which Stable Video Diffusion moves points along given paths; the base stays as it is.

python train_models/train_trajectory.py --train_data_dir data/clips --output_dir outputs/trajectory

Of every clip a few points are drawn that are followed through it (`utils/data/track_clips.py`), and shown to the ControlNet as pictures
(`utils/tracks/control_map.py`). Resizing, crop, flip, step and direction of the clip are those of its points. The loss is that of the base.
"""

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch.utils.data import Dataset, Subset

from models.svd_controlnet import ControlledUNet, ControlNetSVD
from pipelines.pipeline_stable_video_diffusion_controlnet import StableVideoDiffusionControlNetPipeline
from utils.arguments import parse_args, positive_int, run_script
from utils.data.cache import add_cache_arguments
from utils.data.clip_latents import Stretches
from utils.data.track_clips import PointChoice, TrackClips, cache_track_clips
from utils.data.video_arguments import add_video_arguments, read_video_dataset
from utils.data.videos import VideoDataset
from utils.diffusion.edm import EDM, ConditionEncoder, Denoiser
from utils.processes import process_state
from utils.tracks.control_map import CONTROL_CHANNELS, draw_control
from utils.tracks.heuristic_flow import move_picture
from utils.training.checkpoints import find_checkpoint
from utils.training.control_validation import ControlValidation
from utils.training.flow_validation import sample_options
from utils.training.loop import add_training_arguments, check_output_dir, fit
from utils.training.seeding import SeededDataset
from utils.training.svd import (
    add_base_arguments,
    add_condition_arguments,
    check_condition_arguments,
    draw_condition,
    encode_clips,
    load_pipeline,
    read_buckets,
)


def main(argv=None) -> None:
    args = parse_args(make_parser(), argv)
    check(args)
    choice = PointChoice(args.num_points, args.num_other_points, args.moving_share, args.other_share)
    check_output_dir(args)
    clips = read_clips(args)
    buckets = None if args.fixed_motion_bucket else read_buckets(args)
    held_out = read_held_out(clips, buckets, choice, args)
    torch.manual_seed(args.seed)
    pipe = add_controlnet(load_pipeline(args), args)
    model = ControlledUNet(pipe.unet, pipe.controlnet)
    dataset = make_dataset(clips, pipe.vae, buckets, choice, args)
    encoder = ConditionEncoder(pipe.vae, pipe.image_encoder, pipe.feature_extractor)
    edm = EDM(args.sigma_mean, args.sigma_std)
    validate = make_validation(pipe, model, held_out, edm, args)

    def save(model, folder: Path) -> None:
        if buckets:
            buckets.save(folder)
        model.controlnet.half().save_pretrained(folder)

    def loss(model, batch):
        return trajectory_loss(model, batch, encoder, edm, args)

    parameters, frozen = list(pipe.controlnet.parameters()), (pipe.vae, pipe.image_encoder)
    fit(args, model, dataset, loss, save=save, validate=validate, parameters=parameters, frozen=frozen)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    group = parser.add_argument_group("model")
    add_base_arguments(group)
    group.add_argument(
        "--controlnet_model_name_or_path", help="ControlNet to go on with; by default a copy of the base"
    )
    add_control_arguments(parser.add_argument_group("control"))
    add_condition_arguments(parser.add_argument_group("noise and condition"))
    add = parser.add_argument_group("stretches and validation").add_argument
    add("--frame_strides", type=positive_int, nargs="+", default=[1], help="one is drawn for each sample; fps follows")
    add("--random_reverse", action="store_true", help="half of the samples run backwards")
    add("--clip_frames", type=positive_int, help="frames of each clip that --cache_latents keeps; default: one stretch")
    add("--held_out_clips", type=positive_int, help="validate on so many of the last clips, and do not train on them")
    add("--num_inference_steps", type=positive_int, default=25, help="of the validation videos")
    add_video_arguments(parser, num_frames=8, height=64, width=64)
    add_cache_arguments(parser)
    add_training_arguments(parser, gradient_checkpointing=True)
    return parser


def add_control_arguments(group) -> None:
    add, choice = group.add_argument, PointChoice()
    add(
        "--points_from",
        choices=["tracks", "flow"],
        default="tracks",
        help="tracks of the data set, or random places that its flow carries along",
    )
    add("--num_points", type=positive_int, default=choice.num_points, help="1 to so many points of a clip are shown")
    add(
        "--num_other_points",
        type=int,
        default=choice.num_other_points,
        help="in --other_share of the samples also 1 to so many that stand still, or any where the camera moves",
    )
    add("--other_share", type=float, default=choice.other_share, help="share of samples with such others")
    add(
        "--moving_share",
        type=float,
        default=choice.moving_share,
        help="probability that one of the num_points is drawn from those that move; otherwise from all",
    )
    add("--control_dropout_prob", type=float, default=0.1, help="share of samples without any point")


def trajectory_loss(model, batch, encoder, edm, args):
    """||F - v||² at one noise level a clip, the network being shown the points."""
    x_0 = encode_clips(batch, encoder.vae)
    B, F = x_0.shape[:2]
    kept = (torch.rand(B) >= args.control_dropout_prob).to(x_0.device)
    points, shown, image = batch["points"], batch["shown"] & kept[:, None, None], batch["image"]
    pictures = torch.stack([move_picture(*clip) for clip in zip(points, shown, image, strict=True)])
    condition = draw_condition(batch, F, encoder, args, pictures)
    control = draw_control(points, shown, image.shape[-2:])
    sigma = edm.draw_sigmas(B).to(x_0.device)
    denoiser = Denoiser(partial(model, control=control), edm)
    return denoiser.loss(x_0, torch.randn_like(x_0), sigma, condition).mean()


def read_clips(args) -> VideoDataset:
    """Stretches with tracks or flow, or whole clips to be cached."""
    if args.cache_latents:
        frames = args.clip_frames or longest_stretch(args)
        whole = argparse.Namespace(**{**vars(args), "num_frames": frames, "first_frames": True})
        clips = read_video_dataset(whole, (args.points_from,))
    else:
        steps = {"frame_strides": tuple(args.frame_strides), "random_reverse": args.random_reverse}
        clips = read_video_dataset(args, (args.points_from,), **steps)
    if args.skip_bad_clips and (args.cache_latents or args.held_out_clips):
        clips = clips.without_bad_clips()
    if (args.held_out_clips or 0) >= len(clips):
        raise ValueError(f"--held_out_clips {args.held_out_clips} leaves none of the {len(clips)} clips to train on.")
    return clips


def longest_stretch(args) -> int:
    return (args.num_frames - 1) * max(args.frame_strides) + 1


def make_dataset(clips: VideoDataset, vae, buckets, choice: PointChoice, args) -> Dataset:
    """What is trained on: all clips but those held out."""
    if args.cache_latents:
        stretches = Stretches(args.num_frames, args.frame_strides, args.random_reverse)
        clips = cache_track_clips(clips, vae, args.cache_dir, stretches, buckets)
    return Subset(TrackClips(clips, buckets, choice), range(len(clips) - (args.held_out_clips or 0)))


def read_held_out(clips: VideoDataset, buckets, choice: PointChoice, args) -> list[dict]:
    """Samples with pixels: the first stretches of the clips that are held out, always with the same points."""
    if not args.held_out_clips:
        return []
    step = args.frame_strides[0] if args.points_from == "tracks" else 1  # flow is of neighbours
    options = replace(
        clips.options, num_frames=args.num_frames, center_crop=True, first_frames=True, random_flip=False,
        frame_strides=(step,), random_reverse=False,
    )  # fmt: skip
    shown = VideoDataset(clips.records[-args.held_out_clips :], options, clips.extras)
    samples = SeededDataset(TrackClips(shown, buckets, choice), args.seed)
    return [samples[0, index] for index in range(len(samples))]


def add_controlnet(pipe, args) -> StableVideoDiffusionControlNetPipeline:
    """The base with the ControlNet to train."""
    pipe = StableVideoDiffusionControlNetPipeline(**pipe.components)
    if args.controlnet_model_name_or_path:
        pipe.load_controlnet(args.controlnet_model_name_or_path)
    else:
        pipe.controlnet = ControlNetSVD.from_unet(pipe.unet, CONTROL_CHANNELS, pipe.vae_scale_factor)
    channels = pipe.controlnet.config.conditioning_channels
    if channels != CONTROL_CHANNELS:
        raise ValueError(f"The ControlNet reads {channels} channels, and tracks have {CONTROL_CHANNELS}.")
    return pipe


def make_validation(pipe, model, held_out: list[dict], edm: EDM, args) -> ControlValidation | None:
    if not held_out:
        return None

    def draw(sample: dict, control: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
        options = sample_options(sample, args) | {"control": control, "image_frames": pictures, "output_type": "pt"}
        return pipe(sample["image"][None], **options).frames[0] * 2 - 1

    folder = Path(args.output_dir) / "validation"
    validation = ControlValidation(pipe, held_out, edm, folder, args.seed, draw)
    if find_checkpoint(args) is None and process_state().is_main_process:
        pipe.to(process_state().device)
        validation.measure_start(model)
    return validation


def check(args) -> None:
    check_condition_arguments(args)
    if not 0 <= args.control_dropout_prob <= 1:
        raise ValueError(f"--control_dropout_prob {args.control_dropout_prob}: a share lies in 0 to 1.")
    if args.num_frames < 2:
        raise ValueError(f"--num_frames {args.num_frames}: motion needs 2 frames.")
    if args.clip_frames and not args.cache_latents:
        raise ValueError("--clip_frames is of --cache_latents; without it stretches come from all frames.")
    if args.clip_frames and args.clip_frames < longest_stretch(args):
        raise ValueError(f"--clip_frames {args.clip_frames} has no room for a stretch of {longest_stretch(args)}.")
    if args.validation_steps and not args.held_out_clips:
        raise ValueError(f"--validation_steps {args.validation_steps} needs --held_out_clips to validate on.")


if __name__ == "__main__":
    run_script(main)
