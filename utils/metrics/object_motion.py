"""How much the things in a video move, by its optical flow.

Protocol. A mask of the first frame separates objects from background. All pixels are carried on by the estimated flow;
the motion of an object pixel in a step is its shift less the median shift of the background pixels in that step, so
that a move of the camera counts little (nothing if all things are equally far away). Lengths are means over pixels and
steps.
"""

import torch

from utils.metrics.trajectory import follow_flow

MIN_PIXELS = 8  # of an object and of the background


def object_motion(flow: torch.Tensor, objects: torch.Tensor) -> float:
    """Mean shift of the objects against the background, in pixels per frame.

    Args:
        flow: (F - 1, 2, H, W) in pixels, x then y, from each frame to the next.
        objects: bool (H, W), pixels of objects in the first frame.

    Raises:
        ValueError: Shapes differ, or objects or background have fewer than `MIN_PIXELS`.
    """
    if flow.ndim != 4 or objects.shape != flow.shape[-2:]:
        raise ValueError(
            f"Flow (F - 1, 2, H, W) and objects (H, W) have one size, not {tuple(flow.shape)}, {tuple(objects.shape)}."
        )
    if min(objects.sum(), (~objects).sum()) < MIN_PIXELS:
        raise ValueError(
            f"Objects have {int(objects.sum())} of {objects.numel()} pixels; they and the background need {MIN_PIXELS}."
        )
    moving, behind = (_shifts(flow, mask) for mask in (objects, ~objects))  # (F - 1, N, 2)
    return (moving - behind.median(dim=1, keepdim=True).values).norm(dim=-1).mean().item()


def _shifts(flow: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    points = mask.nonzero().flip(-1).float()  # x then y
    return follow_flow(points, flow.float()).diff(dim=0)
