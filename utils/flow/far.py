"""Flow of things that move farther than a local search finds: blocks are matched first, then DIS refines.

DIS follows the gradient from no motion, on gray images, and loses what moves by more than its own size. Here each block
of the reduced first image is compared with all blocks within reach of the last one, in colour. The flow of DIS between
the first image and the last one moved by these matches is added. Places keep what DIS finds by itself, but for those
where its flows there and back disagree, those of the matches agree, and they explain the images much better.
"""

from itertools import product

import torch
from torch.nn import functional

from utils.flow.estimate import FlowEstimator
from utils.flow.warp import compose, find_occlusion, resize_flow, warp

SIDE = 64  # pixels of the longer side of the images that are matched
BLOCK = 7  # pixels of a block's side there
REACH = 26  # pixels that are searched there, in all directions
NEARER = 0.02  # squared colour difference, of pixels in [-1, 1], that a match at full reach has to make good
LOST = 0.02  # error of plain flow, a mean of squared colour differences, from which on it may be replaced
BETTER = 0.5  # share of the error of plain flow that matched flow has to stay below


def far_flows(first: torch.Tensor, last: torch.Tensor, estimate: FlowEstimator) -> tuple[torch.Tensor, torch.Tensor]:
    """Flow (1, 2, H, W) from the first image (3, H, W) in [-1, 1] to the last one, in pixels, x then y, and back.

    Args:
        estimate: From a video to its flow, such as `flow_estimator("dis")`.
    """
    ways = (first, last), (last, first)
    plain = [estimate(torch.stack(way)) for way in ways]
    matched = [_refined(*way, estimate) for way in ways]
    # Where flow there and back disagree one of them is wrong, or there is nothing to find.
    lost, found = ([find_occlusion(*both), find_occlusion(*both[::-1])] for both in (plain, matched))
    return tuple(
        torch.where((lost[k] & ~found[k])[:, None] & _better(*ways[k], matched[k], plain[k]), matched[k], plain[k])
        for k in range(2)
    )


def _refined(first: torch.Tensor, last: torch.Tensor, estimate: FlowEstimator) -> torch.Tensor:
    matched = match_blocks(first, last)
    moved = warp(last[None], matched)[0].clamp(-1, 1)
    return compose(estimate(torch.stack([first, moved])), matched)


def _better(first: torch.Tensor, last: torch.Tensor, matched: torch.Tensor, plain: torch.Tensor) -> torch.Tensor:
    """Whether matched flow explains a place much better, bool (1, 1, H, W)."""
    errors = [_error(first, last, flow) for flow in (plain, matched)]
    return (errors[0] > LOST) & (errors[1] < BETTER * errors[0])


def match_blocks(first: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
    """Flow (1, 2, H, W) from each block of the first image (3, H, W) to the most similar one of the last."""
    H, W = first.shape[-2:]
    scale = min(SIDE / max(H, W), 1.0)
    size = max(round(H * scale), 1), max(round(W * scale), 1)
    small = functional.interpolate(torch.stack([first, last]), size, mode="bilinear", antialias=True)
    one, padded = small[:1], functional.pad(small[1:], [REACH] * 4, mode="replicate")
    least = torch.full((1, 1, *size), float("inf"), dtype=one.dtype, device=one.device)
    best = torch.zeros_like(least, dtype=torch.long)
    shifts = range(-REACH, REACH + 1)
    for number, (y, x) in enumerate(product(shifts, shifts)):
        other = padded[..., REACH + y : REACH + y + size[0], REACH + x : REACH + x + size[1]]
        cost = _over_blocks((one - other).square().mean(1, keepdim=True))
        cost = cost + NEARER * (x * x + y * y) / REACH**2
        found = cost < least
        least = torch.where(found, cost, least)
        best = torch.where(found, number, best)
    flow = torch.cat([best % len(shifts), best // len(shifts)], dim=1) - REACH
    return resize_flow(flow.to(one.dtype), (H, W))


def _over_blocks(values: torch.Tensor) -> torch.Tensor:
    """Means over blocks (1, 1, h, w), which are smaller at the edges."""
    return functional.avg_pool2d(values, BLOCK, 1, BLOCK // 2, count_include_pad=False)


def _error(first: torch.Tensor, last: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """How far the last image looked up by a flow is from the first one, (1, 1, H, W)."""
    return _over_blocks((warp(last[None], flow) - first).square().mean(1, keepdim=True))
