"""Inputs of commands on images with their conditions: modes, and the flags that each of them reads."""

from utils.arguments import share
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
