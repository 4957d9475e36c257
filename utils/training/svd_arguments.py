"""The flags that all trainings on Stable Video Diffusion share, and which of their values contradict each other."""

import argparse
from collections.abc import Sequence

from utils.arguments import finite_float, make_parser, nonzero_float, positive_int, share, weight
from utils.data.cache import add_cache_arguments
from utils.data.video_arguments import add_video_data_arguments
from utils.diffusion.edm import EDM
from utils.diffusion.sampling import VideoSampling, add_sampling_arguments
from utils.flow.images import FlowEncoding
from utils.training.arguments import add_base_arguments, add_training_arguments, base_size


def svd_parser(description: str, steady: bool = False, **defaults) -> argparse.ArgumentParser:
    """A parser with all flags that `utils.training.svd.start_svd` and the training loop read.

    Args:
        description: The script's docstring.
        steady: Whether clips run forwards at one stride, as annotated flow does; there are no flags for it then.
        defaults: In place of those of the flags.
    """
    parser = make_parser(description)
    base = parser.add_argument_group("base")
    add_base_arguments(base, "tiny_svd")
    base.add_argument("--variant", help="variant of the base's files, such as fp16 (default: none)")
    add_condition_arguments(parser.add_argument_group("noise and condition"))
    add_stretch_arguments(parser.add_argument_group("stretches of clips"), steady)
    add_validation_arguments(parser.add_argument_group("validation"))
    add_video_data_arguments(parser, num_frames=None, height=None, width=None)
    add_cache_arguments(parser)
    add_training_arguments(parser)
    parser.set_defaults(**({"frame_strides": [1], "random_reverse": False} if steady else {}), **defaults)
    return parser


def add_condition_arguments(group) -> None:
    add = group.add_argument
    add(
        "--sigma_mean",
        type=finite_float,
        default=EDM.sigma_mean,
        help="mean of ln(sigma) in training; 1.0 for the released weights at 576x1024",
    )
    add("--sigma_std", type=weight, default=EDM.sigma_std, help="standard deviation of ln(sigma) in training")
    add("--conditioning_dropout_prob", type=share, default=0.1, help="share of samples without the image")
    add("--noise_aug_mean", type=finite_float, default=-3.0, help="mean of ln(strength) of the noise on the image")
    add("--noise_aug_std", type=weight, default=0.5, help="standard deviation of ln(strength)")
    add("--motion_buckets", help="map of motion scores, as fit_motion_buckets writes it (default: the base's own)")
    add("--fixed_motion_bucket", action="store_true", help="7 fps and motion bucket 127 for every clip")


def add_stretch_arguments(group, steady: bool = False) -> None:
    add = group.add_argument
    add(
        "--clip_frames",
        type=positive_int,
        help="frames of each clip that --cache_latents keeps (default: those of one stretch)",
    )
    if not steady:
        add(
            "--frame_strides",
            type=positive_int,
            nargs="+",
            default=[1],
            help="a stretch takes every n-th frame, n drawn from these; fps follows",
        )
        add("--random_reverse", action="store_true", help="play half of the stretches backwards")


def add_validation_arguments(group) -> None:
    add = group.add_argument
    add("--held_out_clips", type=positive_int, help="last clips to validate on and not to train on (default: none)")
    add(
        "--held_out_frames",
        type=positive_int,
        help="last frames of each clip to validate on and not to train on (default: none)",
    )
    add("--validation_data_dir", help="clips to validate on, as --train_data_dir (default: none)")
    add(
        "--num_validation_samples",
        type=positive_int,
        default=4,
        help="clips to sample, and to measure if --held_out_frames or --validation_data_dir is given",
    )
    others = set(VideoSampling.names()) - {"num_inference_steps"}
    add_sampling_arguments(group, leave_out=others)


def add_flow_arguments(group) -> None:
    add, image = group.add_argument, FlowEncoding()
    add("--max_flow", type=float, default=image.max_flow, help="pixels that a flow image holds; faster flow is clipped")
    add("--flow_power", type=float, default=image.power, help="exponent of the flow image's values; 1 is linear")


def add_lora_arguments(group, rank: int, targets: str) -> None:
    add = group.add_argument
    add("--rank", type=positive_int, default=rank, help="rank of the LoRA")
    add("--lora_alpha", type=nonzero_float, help="alpha of the LoRA (default: its rank)")
    add(
        "--lora_targets",
        default=targets,
        help="temporal, spatial or all: attention layers with a LoRA; or a regular expression in names of layers",
    )


def take_base_size(args: argparse.Namespace, pipeline: type) -> None:
    """Height, width and number of frames that are not given become the base's own."""
    missing = [name for name in ("height", "width", "num_frames") if getattr(args, name) is None]
    if missing:
        side, num_frames = base_size(args, pipeline)
        for name in missing:
            setattr(args, name, num_frames if name == "num_frames" else side)


def check_svd_arguments(args: argparse.Namespace, extras: Sequence = ()) -> None:
    """Raises ValueError for a value out of its range, and for flags that contradict each other or the extras."""
    needed = max((extra.least_frames for extra in extras), default=1 if args.fixed_motion_bucket else 2)
    if args.num_frames < needed:
        remedy = "" if extras else ", or --fixed_motion_bucket, since motion needs 2 frames"
        raise ValueError(f"--num_frames {args.num_frames} is too few: pass {needed} or more{remedy}.")
    _check_stretches(args)
    _check_validation(args)


def _check_stretches(args) -> None:
    if args.clip_frames and not args.cache_latents:
        raise ValueError(
            f"--clip_frames {args.clip_frames} needs --cache_latents; without it stretches come from all frames."
        )
    if args.clip_frames and args.clip_frames < longest_stretch(args):
        raise ValueError(no_room(args))
    if args.clip_frames and args.first_frames and args.clip_frames > longest_stretch(args):
        raise ValueError(
            f"--first_frames takes frames 0 to {longest_stretch(args) - 1} alone; "
            f"leave --clip_frames {args.clip_frames} out."
        )


def _check_validation(args) -> None:
    ways = [name for name in ("held_out_clips", "held_out_frames", "validation_data_dir") if getattr(args, name)]
    if len(ways) > 1:
        raise ValueError(f"--{ways[0]} and --{ways[1]} are two ways to validate; choose one.")
    if args.validation_steps and not ways:
        raise ValueError(
            f"--validation_steps {args.validation_steps} needs --held_out_clips, --held_out_frames or "
            "--validation_data_dir to validate on."
        )
    needed = (longest_stretch(args) - 1) * args.frame_stride + 1
    if args.held_out_frames and args.held_out_frames < needed:
        raise ValueError(f"--held_out_frames {args.held_out_frames} has no room for a stretch of {needed}.")


def no_room(args: argparse.Namespace) -> str:
    """What is wrong with --clip_frames."""
    return (
        f"--clip_frames {args.clip_frames} has no room for a stretch of {longest_stretch(args)}; raise it, or lower "
        "--num_frames or --frame_strides."
    )


def longest_stretch(args: argparse.Namespace) -> int:
    """Frames from the first to the last of a stretch at its largest stride."""
    return (args.num_frames - 1) * max(args.frame_strides) + 1
