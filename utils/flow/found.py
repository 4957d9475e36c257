"""What a flow is told of a video that is given: the flow that DIS finds in it."""

import torch

from utils.flow.code import FlowCode
from utils.flow.estimate import estimate_flow

SHORTER = 128  # pixels of a picture's shorter side at which DIS still finds small motion


def find_flow(videos: torch.Tensor, code: FlowCode) -> torch.Tensor:
    """Pictures (B, F, 3, H, W) of the flow in videos (B, F, 3, H, W) in about [-1, 1], on the same device."""
    H, W = videos.shape[-2:]
    scale = max(1.0, SHORTER / min(H, W))
    size = round(scale * H), round(scale * W)
    flows = torch.stack([estimate_flow(video.clamp(-1, 1), inference_size=size) for video in videos])
    return code.to_pictures(flows)
