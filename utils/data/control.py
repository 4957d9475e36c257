"""Controls over time: what a ControlNet reads of each frame, as images (F, 3, H, W) in [-1, 1].

    depth          disparity, normalised over the video: nearest 1, farthest -1; three equal channels
    segmentation   one colour for each thing, any palette that training and sampling share
    edge           Canny edges of the frames: 1 on an edge, -1 elsewhere
    flow           optical flow to the next frame: x and y, and a 1; the last frame repeats the flow before
    folder         any other images, as they are

All lengths of flow are shares of the shorter side, so that a resized video has the same control. Zeros are no control.
"""

import numpy as np
import torch
from torch import nn

from utils.data.extras import Extra
from utils.data.video_records import CONTROLS
from utils.depth import normalize_disparity
from utils.edges import canny_edges
from utils.flow.images import FlowEncoding
from utils.video import to_pixels

SOURCES = {  # what a control is made from
    "depth": "depth",
    "segmentation": "segmentation",
    "edge": "pixel_values",
    "flow": "flow",
    "folder": "control",
}
MAX_FLOW = 0.25  # of the shorter side, in a frame; faster flow is clipped
CONTROL_CHANNELS = 3


def control_images(kind: str, values: torch.Tensor) -> torch.Tensor:
    """The control (F, 3, H, W) of a kind.

    Args:
        values: What `SOURCES` names: disparity (F, 1, H, W), flow (F - 1, 2, H, W) in pixels, or images (F, 3, H, W) in
            [-1, 1].
    """
    if kind == "depth":
        return torch.from_numpy(normalize_disparity(values.numpy())).expand(-1, 3, -1, -1)
    if kind == "edge":
        return torch.stack([canny_edges(frame) for frame in values])
    if kind == "flow":
        return _flow_images(values)
    return values


def _flow_images(flow: torch.Tensor) -> torch.Tensor:
    images = FlowEncoding(MAX_FLOW * min(flow.shape[-2:])).encode(flow)
    images[:, 2] = 1
    return torch.cat([images, images[-1:]])


class ControlImages(Extra):
    """`control` (F, 3, H, W) in [-1, 1], of one of the kinds in `SOURCES`."""

    def __init__(self, kind: str):
        self.kind, self.name = kind, f"control_{kind}"
        self.reads = () if kind == "edge" else (SOURCES[kind],)
        self.frames = kind == "edge"

    def __call__(self, clip: dict) -> dict[str, torch.Tensor]:
        return {"control": control_images(self.kind, clip[SOURCES[self.kind]])}

    def keep(self, clip: dict, vae: nn.Module) -> dict[str, np.ndarray]:
        """Images as bytes, disparity in half precision."""
        kept = super().keep(clip, vae)
        return {name: _pack(name, values) for name, values in kept.items()}

    def take(self, kept: dict[str, np.ndarray], numbers: list[int], num_frames: int) -> dict[str, torch.Tensor]:
        taken = super().take(kept, numbers, num_frames)
        return {name: _unpack(values) for name, values in taken.items()}


def _pack(name: str, values: np.ndarray) -> np.ndarray:
    if name == "depth":
        return values.astype(np.float16)
    if name in CONTROLS:
        return np.rint((values + 1) * 127.5).astype(np.uint8)
    return values


def _unpack(values: torch.Tensor) -> torch.Tensor:
    if values.dtype == torch.uint8:
        return to_pixels(values.permute(0, 2, 3, 1).numpy())
    return values.float()
