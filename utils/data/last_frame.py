"""The last frame of a clip, for networks that are conditioned on both ends."""

import torch

from utils.data.extras import Extra


class LastFrame(Extra):
    """`last_image` (3, H, W) in [-1, 1]: the last frame of a stretch, as `image` is its first one."""

    name = "last_frame"
    least_frames = 3  # one lies between the ends

    def __call__(self, clip: dict) -> dict[str, torch.Tensor]:
        return {"last_image": clip["pixel_values"][-1]}
