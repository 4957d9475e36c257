"""Flags of commands on images with their conditions: modes, what each of them reads, and the sampling."""

from utils.arguments import finite_float, positive_int, seed, share
from utils.commands.argument_groups import add_size_arguments
from utils.depth import KINDS
from utils.diffusion.one_step import ONE_STEP

SAMPLED = ("joint", "image_to_depth", "depth_to_image", "coarse")
MODES = (*SAMPLED, ONE_STEP)
NEEDS = {  # one of each group
    "image_to_depth": [("image", "video")],
    ONE_STEP: [("image",)],
    "depth_to_image": [("depth", "condition")],
    "coarse": [("image", "depth", "condition")],
}
READ_BY = {
    "image": ("image_to_depth", "coarse", ONE_STEP),
    "video": ("image_to_depth",),
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


def add_pair_inputs(group) -> None:
    """Add --mode and the flags of the inputs."""
    add = group.add_argument
    add(
        "--mode",
        choices=MODES,
        default="joint",
        help="what is sampled or estimated, and from what",
    )
    add("--image", help="image, for the modes image_to_depth, one_step and coarse (default: none)")
    add("--video", help="video whose depth is sampled frame by frame, in place of --image (default: none)")
    add("--depth", help="depth image, the same as --condition depth=FILE (default: none)")
    add("--condition", nargs="+", default=[], metavar="NAME=FILE", help="an image for each adapter (default: none)")
    kinds = "meaning of depth values: disparity, largest where nearest, or metres, as 16-bit millimetres or floats"
    add("--depth_kind", choices=KINDS, help=f"{kinds} (default: what the file says, else disparity)")
    add("--strength", type=share, default=0.7, help="noise level at which --mode coarse starts, 0 to 1")
    add("--condition_strength", type=share, help="noise level of depth and conditions alone (default: --strength)")


def add_pair_sampling(group) -> None:
    """Add the flags of the sampling."""
    add = group.add_argument
    add("--prompt", help="what is in the image (default: in the mode joint a scene of the small model, else nothing)")
    add("--negative_prompt", help="prompt of the unconditional prediction (default: empty)")
    add("--num_images_per_prompt", type=positive_int, help="pairs to sample (default: 4 in the mode joint, else 1)")
    add("--num_inference_steps", type=positive_int, default=30, help="denoising steps")
    add("--guidance_scale", type=finite_float, default=5.0, help="guidance scale of the prompt")
    add("--condition_guidance_scale", type=finite_float, default=0.0, help="guidance scale of the joint attention")
    add("--scheduler", help="class in diffusers, such as UniPCMultistepScheduler (default: the model's own)")
    add("--seed", type=seed, default=0, help="noise seed")
    add_size_arguments(group)


def condition_files(args) -> dict[str, str]:
    """The file of each condition, by the name of its adapter."""
    files = dict(item.partition("=")[::2] for item in args.condition)
    return files | ({"depth": args.depth} if args.depth else {})
