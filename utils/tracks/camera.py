"""Camera moves as flow of the whole image: exact motion of the image plane at constant speed, whatever the scene."""

import math
import reprlib

import torch

from utils.flow.warp import pixel_grid

PANS = {"pan_left": (1, 0), "pan_right": (-1, 0), "tilt_up": (0, 1), "tilt_down": (0, -1)}  # where the image goes
ZOOMS = {"zoom_in": 1, "zoom_out": -1}
ROLLS = {"roll_left": 1, "roll_right": -1}
MAX_SPEED = 1e6  # also refuses inf and nan
PRESETS = (*PANS, *ZOOMS, *ROLLS)


def camera_flow(preset: str, speed: float, num_frames: int, width: int, height: int) -> torch.Tensor:
    """Flow (F - 1, 2, H, W), in pixels, of a camera move, named after the camera: `pan_left` shifts the image right.

    Args:
        preset: One of `PRESETS`.
        speed: For pans and tilts pixels per frame; for zooms the factor per frame, above 1, about the middle of the
            image; for rolls degrees per frame about that middle, where `roll_left` turns the camera counterclockwise
            and the image clockwise.

    Raises:
        ValueError: See `check_camera`.
    """
    check_camera(preset, speed)
    middle = torch.tensor([(width - 1) / 2, (height - 1) / 2]).view(2, 1, 1)
    places = pixel_grid(height, width, like=middle) - middle
    if preset in PANS:
        flow = torch.tensor(PANS[preset], dtype=torch.float32).view(2, 1, 1).expand(2, height, width) * speed
    elif preset in ZOOMS:
        flow = (speed ** ZOOMS[preset] - 1) * places
    else:
        angle = math.radians(speed) * ROLLS[preset]
        turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        flow = torch.einsum("ij,jhw->ihw", turn, places) - places
    return flow.expand(num_frames - 1, 2, height, width).contiguous()


def check_camera(preset: str, speed: float) -> None:
    """Raises ValueError for an unknown preset or a speed that it does not take."""
    if preset not in PRESETS:
        raise ValueError(f"The camera preset {preset!r} is unknown: choose one of {', '.join(PRESETS)}.")
    if isinstance(speed, bool) or not isinstance(speed, int | float) or not 0 < speed <= MAX_SPEED:
        raise ValueError(f"The camera's speed {reprlib.repr(speed)} is no positive number up to {MAX_SPEED:g}.")
    if preset in ZOOMS and speed <= 1:
        raise ValueError(f"A zoom's speed is its factor per frame, above 1, and is {speed}: take 1.05, say.")
