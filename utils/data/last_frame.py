"""The last frame of a clip, and what lies between by flow alone, for networks that are conditioned on both ends."""

from typing import ClassVar

import torch

from utils.data.extras import Extra
from utils.flow.interpolate import interpolate


class LastFrame(Extra):
    """`last_image` (3, H, W) in [-1, 1]: the last frame of a stretch, as `image` is its first one."""

    name = "last_frame"
    least_frames = 3  # one lies between the ends

    def __call__(self, clip: dict) -> dict[str, torch.Tensor]:
        return {"last_image": clip["pixel_values"][-1]}


class FlowGuess(Extra):
    """`guess` (F, 3, H, W) in [-1, 1]: the frames between the first and the last one, interpolated by optical flow.

    Things that move far are not looked for: that would take longer than a step of training.
    """

    name: ClassVar[str] = "flow_guess"
    least_frames: ClassVar[int] = 3

    def __call__(self, clip: dict) -> dict[str, torch.Tensor]:
        frames = clip["pixel_values"]
        return {"guess": interpolate(frames[0], frames[-1], len(frames), far=False)}
