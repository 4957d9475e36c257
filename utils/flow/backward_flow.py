"""Backward flow from each frame to the first one, made of the flow from each frame to the next.

Every pixel is carried to the next frame by its flow. Where several arrive, the one counts whose flow is most like the
flow at that place, since flow k lies on the pixels of frame k. Where none arrives, something was uncovered: it takes
the nearest visible pixel that moves as it does.
"""

import cv2
import numpy as np
import torch

from utils.flow.warp import warp

NEAR = 0.8  # pixels from a place at which a pixel arrives there; where objects grow pixels arrive that far apart
UNLIKE = 0.3  # pixels of distance that equal one pixel of difference in flow, between pixels that arrive
ALIKE = 8.0  # likewise where uncovered places are filled
EDGE, EDGE_SHARE = 0.5, 0.3  # pixels, and share of the length, by which flows of neighbours differ at an edge
ONE_KD_TREE = 4  # FLANN's name of the exact search


def move_along(image: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """An image (3, H, W) warped by flow (F - 1, 2, H, W) from each frame to the next: (F, 3, H, W)."""
    way = backward_flow(flow).to(image)
    return warp(image.expand(len(way), -1, -1, -1), way)


def backward_flow(flow: torch.Tensor) -> torch.Tensor:
    """Flow from each pixel of each frame back to its place in frame 0, float32 (F, 2, H, W), pixels, x then y.

    flow: (F - 1, 2, H, W), flow k on the pixels of frame k, to frame k + 1.
    """
    steps = list(flow.detach().float().cpu().movedim(1, -1).numpy())
    H, W = steps[0].shape[:2]
    grid = np.stack(np.meshgrid(np.arange(W), np.arange(H)), axis=-1).astype(np.float32)
    first_edges = _edges(steps[0])
    ways = [np.zeros_like(grid)]
    for step, next_step in zip(steps, [*steps[1:], _carry_on(steps[-1], grid)], strict=True):
        source, arrived = _arrivals(step, next_step, grid)
        way = np.where(arrived[..., None], (ways[-1] - step).reshape(-1, 2)[source], ways[-1])
        edges = _edges(next_step)
        of_edge = _look_up(first_edges, grid + way)  # such pixels mix two objects, and stay at an edge
        seen = arrived & (edges | ~of_edge)
        sources = next((known for known in (seen & ~edges, seen, arrived) if known.any()), None)
        ways.append(way if sources is None else _fill(way, seen, sources, next_step, grid))
    return torch.from_numpy(np.stack(ways)).movedim(-1, 1)


def _arrivals(step: np.ndarray, next_step: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The number of the pixel that arrives at each place, int (H, W), and where there is one, bool (H, W)."""
    H, W = step.shape[:2]
    landing, moved = (grid + step).reshape(-1, 2), step.reshape(-1, 2)
    corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1]])
    places = np.floor(landing).astype(int)[:, None] + corners  # (H W, 4, 2)
    squares = np.square(places - landing[:, None]).sum(axis=-1)
    near = (squares <= NEAR**2) & ((places >= 0) & (places < [W, H])).all(axis=-1)
    pixel, corner = near.nonzero()
    x, y = places[pixel, corner].T
    cost = squares[near] + UNLIKE**2 * np.square(moved[pixel] - next_step[y, x]).sum(axis=-1)
    order = np.argsort(cost)[::-1]  # the best is written last
    x, y, pixel = (values[order] for values in (x, y, pixel))
    source, seen = np.zeros((H, W), int), np.zeros((H, W), bool)
    source[y, x], seen[y, x] = pixel, True
    return source, seen


def _edges(step: np.ndarray) -> np.ndarray:
    """Pixels (H, W) whose neighbours move differently."""
    kernel = np.ones((3, 3), np.uint8)
    lengths = np.linalg.norm(step, axis=-1)
    return (cv2.dilate(step, kernel) - cv2.erode(step, kernel)).max(axis=-1) > np.maximum(EDGE, EDGE_SHARE * lengths)


def _look_up(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Values (H, W) at the pixels nearest to places (H, W, 2)."""
    H, W = values.shape
    x, y = np.rint(places).astype(int).clip(0, [W - 1, H - 1]).transpose(2, 0, 1)
    return values[y, x]


def _fill(way: np.ndarray, seen: np.ndarray, sources: np.ndarray, step: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """The backward flow, where a pixel was not seen before that of the nearest source that moves as it does."""
    if seen.all():
        return way
    features = np.concatenate([grid, ALIKE * step], axis=-1)
    nearest = _nearest(features[sources], features[~seen], 1)[:, 0]
    filled = way.copy()
    filled[~seen] = (grid + way)[sources][nearest] - grid[~seen]
    return filled


def _carry_on(step: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """The flow of the last frame, which has none: that of the frame before, carried along itself, fast before slow."""
    H, W = step.shape[:2]
    order = np.argsort(np.linalg.norm(step, axis=-1), axis=None)
    places = np.rint(grid + step).astype(int).reshape(-1, 2)[order]
    inside = ((places >= 0) & (places < [W, H])).all(axis=1)
    x, y = places[inside].T
    carried, known = np.zeros_like(step), np.zeros((H, W), bool)
    carried[y, x] = step.reshape(-1, 2)[order][inside]
    known[y, x] = True
    if known.all() or not known.any():
        return carried
    around = carried[known][_nearest(grid[known], grid[~known], min(8, int(known.sum())))]  # (M, 8, 2)
    slowest = np.linalg.norm(around, axis=-1).argmin(axis=1)  # what was covered lies behind
    carried[~known] = around[np.arange(len(around)), slowest]
    return carried


def _nearest(points: np.ndarray, places: np.ndarray, count: int) -> np.ndarray:
    """Numbers (M, count) of the points (N, D) nearest to places (M, D), exactly."""
    index = cv2.flann_Index(np.ascontiguousarray(points, np.float32), {"algorithm": ONE_KD_TREE})
    return index.knnSearch(np.ascontiguousarray(places, np.float32), count, params={"checks": -1})[0]
