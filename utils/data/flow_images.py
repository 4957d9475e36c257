"""The optical flow of a clip as images, which an autoencoder of images can encode."""

from dataclasses import asdict

import numpy as np
import torch
from torch import nn

from utils.data.clip_latents import clip_modes
from utils.data.extras import Extra
from utils.flow.code import FlowCode


class FlowImages(Extra):
    """`flow_pixel_values` (F, 3, H, W) in [-1, 1], or from a cache `flow_latents` (F, C, h, w), unscaled, float32.

    Flow images are encoded one by one, so that the latents of a stretch are rows of those of the whole clip, but for
    its last frame: it repeats the flow before, whose latents it takes.

    Args:
        code: How flow becomes images; its scale of latents plays no part here.
    """

    name = "flow"
    reads = ("flow",)
    frames = False

    def __init__(self, code: FlowCode):
        self.code = code

    def __call__(self, clip: dict) -> dict[str, torch.Tensor]:
        if "flow_latents" in clip:
            return {"flow_latents": clip["flow_latents"]}
        return {"flow_pixel_values": self.code.to_images(clip["flow"])}

    def settings(self) -> list:
        return [asdict(self.code.encoding)]

    def keep(self, clip: dict, vae: nn.Module) -> dict[str, np.ndarray]:
        return {"flow": clip_modes(vae, self.code.encoding.encode(clip["flow"]))}

    def take(self, kept: dict, numbers: list[int], num_frames: int) -> dict[str, torch.Tensor]:
        flows = [*numbers[:-1], numbers[-2]]
        return {"flow_latents": torch.from_numpy(kept["flow"][flows].astype(np.float32))}
