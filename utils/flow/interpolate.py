"""Frames between two images by optical flow alone, without a trained network.

Both images are warped to the time in between, each by its own flow to the other, and blended by how near they are. What
only one of them shows is taken from that one (Baker et al., IJCV 2011, section 3.3, with flow in both directions).
"""

import cv2
import numpy as np
import torch

from utils.flow.backward_flow import backward_flow
from utils.flow.estimate import FlowEstimator, flow_estimator
from utils.flow.far import far_flows
from utils.flow.warp import find_occlusion, warp

SMALL = 128  # pixels of the shorter side, below which DIS finds more at twice the size
SPECK = 5  # pixels of the median's side
LEAST = 1e-3  # weight of an image that does not show a place, so that one that neither shows is a blend


def cross_fade(first: torch.Tensor, last: torch.Tensor, num_frames: int) -> torch.Tensor:
    """Frames (F, 3, H, W) of which each is a blend of both images (3, H, W)."""
    return torch.lerp(first, last, torch.linspace(0, 1, num_frames)[:, None, None, None].to(first))


def interpolate(
    first: torch.Tensor,
    last: torch.Tensor,
    num_frames: int,
    estimate: FlowEstimator | None = None,
    far: bool = True,
) -> torch.Tensor:
    """Frames (F, 3, H, W) from the first image (3, H, W) to the last one, both included, in [-1, 1].

    Args:
        estimate: From a video to its flow; DIS by default.
        far: Whether things that move far are looked for too (`utils/flow/far.py`), which takes most of the time.
    """
    ends = torch.stack([first, last])
    estimate = estimate or _dis(*first.shape[-2:])
    there, back = far_flows(first, last, estimate) if far else (estimate(ends), estimate(ends.flip(0)))
    alone = find_occlusion(there, back), find_occlusion(back, there)  # (1, H, W), of what the other does not show
    frames = [first]
    for time in torch.linspace(0, 1, num_frames).tolist()[1:-1]:
        sides = [
            _move(image, flow * share, hidden)
            for image, flow, share, hidden in zip(ends, (there, back), (time, 1 - time), alone, strict=True)
        ]
        frames.append(_blend(*sides, time))
    return torch.stack([*frames, last])


def _dis(H: int, W: int) -> FlowEstimator:
    return flow_estimator("dis", inference_size=(2 * H, 2 * W) if min(H, W) < SMALL else None)


def _move(image: torch.Tensor, flow: torch.Tensor, alone: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """An image moved along its flow (1, 2, H, W), and (1, H, W) how much of each place it alone shows."""
    way = _without_specks(backward_flow(flow)[1]).to(image)
    moved = warp(torch.cat([image, alone.to(image)])[None], way)[0]
    return moved[:3], moved[3:]


def _without_specks(way: torch.Tensor) -> torch.Tensor:
    """Flow (1, 2, H, W) of (2, H, W), the median around each pixel: places at edges that took flow from elsewhere."""
    return torch.from_numpy(np.stack([cv2.medianBlur(np.ascontiguousarray(one), SPECK) for one in way.numpy()]))[None]


def _blend(before: tuple, after: tuple, time: float) -> torch.Tensor:
    (first, first_alone), (last, last_alone) = before, after
    weight = (1 - time) * (1 - last_alone).clamp(min=LEAST)
    other = time * (1 - first_alone).clamp(min=LEAST)
    return (weight * first + other * last) / (weight + other)
