"""What the scripts that draw videos share: options of the sampling, and the picture at the size of its video."""

from pathlib import Path

import torch
from tqdm.auto import tqdm

from utils.arguments import positive_float, positive_int
from utils.images import cover, read_image, to_pixels
from utils.motion_helper import MAX_BUCKET


def add_sampling_arguments(group) -> None:
    add = group.add_argument
    add("--motion_bucket_id", type=float, default=127, help="how much motion, 0 to 255")
    add_negative_bucket_argument(group)
    add("--noise_aug_strength", type=float, default=0.02, help="deviation of the noise on the picture")
    add("--fps", type=positive_float, default=7, help="what the network is told, and what the file plays at")
    add("--num_inference_steps", type=positive_int, default=25)
    add_solver_argument(group)
    add("--min_guidance_scale", type=float, default=1.0, help="at the first frame")
    add("--max_guidance_scale", type=float, default=3.0, help="at the last frame; no guidance at 1 or less")


def add_solver_argument(group) -> None:
    group.add_argument(
        "--solver_order", type=int, choices=(1, 2), default=1, help="1: Euler's steps; 2: DPM-Solver++'s"
    )


def add_negative_bucket_argument(group) -> None:
    group.add_argument(
        "--negative_motion_bucket_id",
        type=float,
        help="that guidance leads away from: a low one makes things move more; by default that of the video. Flow that is "
        "drawn first does not read it",
    )


def add_flow_sampling_arguments(group) -> None:
    """Of a joint model's flow."""
    add = group.add_argument
    add("--flow_solver_order", type=int, choices=(1, 2), default=2, help="1 shortens what the flow is to move")
    add(
        "--flow_guidance_scale",
        type=positive_float,
        help="of flow that is drawn first, away from a standstill; no guidance at 1 or less; by default 1.2, or 1 "
        "for adapters that were trained with --fixed_motion_bucket",
    )


def check_sampling(args) -> None:
    """Raises ValueError for a number that is out of its range."""
    if not 0 <= args.motion_bucket_id <= MAX_BUCKET:
        raise ValueError(f"--motion_bucket_id {args.motion_bucket_id:g} is not between 0 and {MAX_BUCKET}.")
    check_negative_bucket(args)
    if args.noise_aug_strength < 0:
        raise ValueError(f"--noise_aug_strength {args.noise_aug_strength} is negative.")
    if args.num_frames == 1:
        raise ValueError("--num_frames 1 is no video: take 2 or more.")


def check_negative_bucket(args) -> None:
    """Raises ValueError for a --negative_motion_bucket_id that is out of its range, or that no guidance leads away from."""
    bucket = args.negative_motion_bucket_id
    if bucket is not None and not 0 <= bucket <= MAX_BUCKET:
        raise ValueError(f"--negative_motion_bucket_id {bucket:g} is not between 0 and {MAX_BUCKET}.")
    if bucket is not None and args.max_guidance_scale <= 1:
        raise ValueError(
            f"--negative_motion_bucket_id {bucket:g} is what guidance leads away from: pass a --max_guidance_scale above 1."
        )


def check_size(args, pipe) -> None:
    """Raises ValueError for sides that the model does not divide."""
    for name in ("height", "width"):
        if (side := getattr(args, name)) and side % pipe.size_multiple:
            raise ValueError(f"--{name} {side} is not a multiple of {pipe.size_multiple}.")


def sampling_options(args, seed: int) -> dict:
    """Arguments of a pipeline's call."""
    return {
        "num_inference_steps": args.num_inference_steps,
        "solver_order": args.solver_order,
        "min_guidance_scale": args.min_guidance_scale,
        "max_guidance_scale": args.max_guidance_scale,
        "fps": args.fps,
        "motion_bucket_id": args.motion_bucket_id,
        "negative_motion_bucket_id": args.negative_motion_bucket_id,
        "noise_aug_strength": args.noise_aug_strength,
        "generator": torch.Generator().manual_seed(seed),
    }


def read_pixels(args, pipe, path: Path) -> torch.Tensor:
    """The picture (3, H, W) in [-1, 1] at the size of its video."""
    pixels = to_pixels(read_image(path))
    H, W = pixels.shape[-2:]
    size = target_size(args, pipe, (H, W))
    if size != (H, W):
        tqdm.write(f"{path}: {W}x{H} pixels are resized and cropped to {size[1]}x{size[0]}.")
    return cover(pixels, size)


def target_size(args, pipe, size: tuple[int, int]) -> tuple[int, int]:
    """--height and --width; what is missing keeps the picture's shape, and without both the model's own number of pixels."""
    H, W = size
    own_side = pipe.unet.config.sample_size * pipe.vae_scale_factor
    scale = own_side / (H * W) ** 0.5
    if args.height or args.width:
        scale = args.height / H if args.height else args.width / W
    rounded = [max(1, round(side * scale / pipe.size_multiple)) * pipe.size_multiple for side in size]
    return args.height or rounded[0], args.width or rounded[1]
