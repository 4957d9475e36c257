"""Flags of commands on images with their conditions: modes, what each of them reads, the sampling, and checks."""

import torch

from pipelines.image_sides import check_scheduler
from pipelines.layouts import check_steps, read_scheduler
from utils.arguments import filled, finite_float, named_path, positive_int, seed, share
from utils.commands.argument_groups import add_size_arguments
from utils.depth import KINDS
from utils.diffusion.one_step import ONE_STEP
from utils.pretrained import find_scheduler

SAMPLED = ("joint", "image_to_depth", "depth_to_image", "coarse")
MODES = (*SAMPLED, ONE_STEP)
NEEDS = {  # one of each group
    "image_to_depth": [("image", "video")],
    ONE_STEP: [("image", "video")],
    "depth_to_image": [("depth", "condition")],
    "coarse": [("image", "depth", "condition")],
}
READ_BY = {
    "image": ("image_to_depth", "coarse", ONE_STEP),
    "video": ("image_to_depth", ONE_STEP),
    "depth": ("depth_to_image", "coarse"),
    "condition": ("depth_to_image", "coarse"),
    "depth_kind": ("depth_to_image", "coarse"),
    "strength": ("coarse",),
    "condition_strength": ("coarse",),
} | dict.fromkeys(
    ("prompt", "negative_prompt", "num_images_per_prompt", "num_inference_steps", "guidance_scale")
    + ("condition_guidance_scale", "scheduler", "seed"),
    SAMPLED,
)

NEEDED = (  # flags, whether what they need is there, and what that is
    (("condition_strength", "depth_kind"), lambda args: args.depth or args.condition, "--depth or --condition"),
    (("strength",), lambda args: args.image or args.condition_strength is None, "--image"),
    (("guidance_scale",), lambda args: _has_text(args), "--prompt"),
    (("negative_prompt",), lambda args: args.guidance_scale > 1, "--guidance_scale above 1"),
)


def _has_text(args) -> bool:
    return bool(args.prompt or args.negative_prompt or (args.mode == "joint" and args.prompt is None))


def add_pair_inputs(group) -> None:
    """Add --mode and the flags of the inputs."""
    add = group.add_argument
    add(
        "--mode",
        choices=MODES,
        default="joint",
        help="what is sampled or estimated, and from what",
    )
    add("--image", type=filled, help="image, for the modes image_to_depth, one_step and coarse (default: none)")
    video = "a video file, or a folder of numbered frames, for the depth of each frame, in place of --image"
    add("--video", type=filled, help=f"{video} (default: none)")
    add("--depth", type=filled, help="depth image, the same as --condition depth=FILE (default: none)")
    given = "the file of a condition, by the name of its adapter (default: none)"
    add("--condition", nargs="+", type=named_path, default=[], metavar="NAME=FILE", help=given)
    kinds = "meaning of depth values: disparity, largest where nearest, or metres, as 16-bit millimetres or floats"
    add("--depth_kind", choices=KINDS, help=f"{kinds} (default: what the file says, else disparity)")
    add("--strength", type=share, default=0.7, help="noise level at which --mode coarse starts, 0 to 1")
    add("--condition_strength", type=share, help="noise level of depth and conditions, 0 to 1 (default: --strength)")


def add_pair_sampling(group) -> None:
    """Add the flags of the sampling."""
    add = group.add_argument
    add("--prompt", help="what is in the image (default: in the mode joint a scene of the small model, else nothing)")
    add("--negative_prompt", help="prompt of the unconditional prediction (default: empty)")
    add("--num_images_per_prompt", type=positive_int, help="pairs to sample (default: 4 in the mode joint, else 1)")
    add("--num_inference_steps", type=positive_int, default=30, help="denoising steps")
    add("--guidance_scale", type=finite_float, default=5.0, help="guidance scale of the prompt; 1 or less: no guidance")
    add(
        "--condition_guidance_scale",
        type=finite_float,
        default=0.0,
        help="guidance scale of the joint attention; 0: none",
    )
    add("--scheduler", help="class in diffusers, such as UniPCMultistepScheduler (default: the model's own)")
    add("--seed", type=seed, default=0, help="noise seed")
    add_size_arguments(group)


def condition_files(args) -> dict[str, str]:
    """The file of each condition, by the name of its adapter.

    Raises:
        ValueError: There are two for one name.
    """
    files = {"depth": args.depth} if args.depth else {}
    for name, path in (item.partition("=")[::2] for item in args.condition):
        if name in files:
            raise ValueError(f"{files[name]} and {path} are both passed as the condition {name}: pass one of them.")
        files[name] = path
    return files


def check_sampler(base: str, flag: str, scheduler: str | None, steps: int) -> None:
    """Raises ValueError for a scheduler that cannot sample a base, and for too many steps, from its configuration.

    Args:
        flag: What the user passed the base by.
        scheduler: Class in diffusers; None for the base's own.
    """
    check_steps(base, flag, num_inference_steps=steps)
    if scheduler is None:
        return
    kind = find_scheduler(scheduler)
    try:
        _try_step(kind.from_config(read_scheduler(base, flag)))
    except (TypeError, ValueError, LookupError, AttributeError, NotImplementedError) as error:
        raise ValueError(
            f"--scheduler {scheduler} cannot sample {base}: pass DDIMScheduler or UniPCMultistepScheduler, say."
        ) from error


def _try_step(scheduler) -> None:
    check_scheduler(scheduler)
    scheduler.set_timesteps(2)
    x_t, t = torch.zeros(1, 4, 8, 8), scheduler.timesteps[0]
    scheduler.step(scheduler.scale_model_input(x_t, t), t, x_t)
