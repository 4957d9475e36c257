"""The flags that all trainings on Stable Video Diffusion share, and which of their values contradict each other."""

import argparse
from collections.abc import Sequence

from utils.arguments import positive_int
from utils.data.cache import add_cache_arguments
from utils.data.video_arguments import add_video_arguments
from utils.training.arguments import add_training_arguments


def svd_parser(description: str, steady: bool = False, **defaults) -> argparse.ArgumentParser:
    """A parser with all flags that `utils.training.svd.start_svd` and the training loop read.

    Args:
        description: The script's docstring.
        steady: Whether clips run forwards at one stride, as annotated flow does; there are no flags for it then.
        defaults: In place of those of the flags.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_base_arguments(parser.add_argument_group("base"))
    add_condition_arguments(parser.add_argument_group("noise and condition"))
    add_stretch_arguments(parser.add_argument_group("stretches of clips"), steady)
    add_validation_arguments(parser.add_argument_group("validation"))
    add_video_arguments(parser, num_frames=8, height=64, width=64)
    add_cache_arguments(parser)
    add_training_arguments(parser)
    parser.set_defaults(**({"frame_strides": [1], "random_reverse": False} if steady else {}), **defaults)
    return parser


def add_base_arguments(group) -> None:
    add = group.add_argument
    add(
        "--pretrained_model_name_or_path",
        "--pretrained_model_name",
        default="weights/tiny_svd",
        help="folder or hub name of the base",
    )
    add("--revision", help="of the base on the hub")
    add("--variant", help="of the base's files, such as fp16")


def add_condition_arguments(group) -> None:
    add = group.add_argument
    add("--sigma_mean", type=float, default=0.7, help="of ln(sigma); 1.0 for the released weights at 576x1024")
    add("--sigma_std", type=float, default=1.6)
    add("--conditioning_dropout_prob", type=float, default=0.1, help="share of samples without the image")
    add("--noise_aug_mean", type=float, default=-3.0, help="of ln(strength) of the noise on the image")
    add("--noise_aug_std", type=float, default=0.5)
    add("--motion_buckets", help="map of motion scores, as fit_motion_buckets writes it; default: the base's own")
    add("--fixed_motion_bucket", action="store_true", help="tell 7 fps and bucket 127 for every clip")


def add_stretch_arguments(group, steady: bool = False) -> None:
    add = group.add_argument
    add("--clip_frames", type=positive_int, help="frames of each clip that --cache_latents keeps; default: one stretch")
    if not steady:
        add("--frame_strides", type=positive_int, nargs="+", default=[1], help="one is drawn a sample; fps follows")
        add("--random_reverse", action="store_true", help="half of the samples run backwards")


def add_validation_arguments(group) -> None:
    add = group.add_argument
    add("--held_out_clips", type=positive_int, help="validate on so many of the last clips, and do not train on them")
    add(
        "--held_out_frames",
        type=positive_int,
        help="validate on the last frames of each clip, and do not train on them",
    )
    add("--validation_data_dir", help="as --train_data_dir: clips that are not trained on")
    add("--num_validation_samples", type=positive_int, default=4, help="clips of the latter two, the first ones")
    add("--num_inference_steps", type=positive_int, default=25, help="of validation samples")


def add_flow_arguments(group) -> None:
    add = group.add_argument
    add("--max_flow", type=float, default=16.0, help="pixels that a flow image holds; what is faster is clipped")
    add("--flow_power", type=float, default=0.5, help="of the flow image's values; 1 is linear")


def add_lora_arguments(group, rank: int, targets: str) -> None:
    add = group.add_argument
    add("--rank", type=positive_int, default=rank, help="of the LoRA")
    add("--lora_alpha", type=float, help="by default the rank")
    add("--lora_targets", default=targets, help="temporal, spatial or all attention, or an expression in layer names")


def check_svd_arguments(args: argparse.Namespace, extras: Sequence = ()) -> None:
    """Raises ValueError for a value out of its range, and for flags that contradict each other or the extras."""
    if args.num_frames < 2 and (extras or not args.fixed_motion_bucket):
        or_not = "" if extras else "; or pass --fixed_motion_bucket"
        raise ValueError(f"--num_frames {args.num_frames}: motion needs 2 frames{or_not}.")
    _check_condition(args)
    _check_stretches(args)
    _check_validation(args)


def _check_condition(args) -> None:
    if not 0 <= args.conditioning_dropout_prob <= 1:
        raise ValueError(f"--conditioning_dropout_prob {args.conditioning_dropout_prob}: a share lies in 0 to 1.")
    for name in ("sigma_std", "noise_aug_std"):
        if getattr(args, name) < 0:
            raise ValueError(f"--{name} {getattr(args, name)} is negative.")


def _check_stretches(args) -> None:
    if args.clip_frames and not args.cache_latents:
        raise ValueError(
            f"--clip_frames {args.clip_frames} needs --cache_latents; without it stretches come from all frames."
        )
    if args.clip_frames and args.clip_frames < longest_stretch(args):
        raise ValueError(f"--clip_frames {args.clip_frames} has no room for a stretch of {longest_stretch(args)}.")
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


def longest_stretch(args: argparse.Namespace) -> int:
    """Frames from the first to the last of a stretch at its largest stride."""
    return (args.num_frames - 1) * max(args.frame_strides) + 1
