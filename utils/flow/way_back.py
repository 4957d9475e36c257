"""Where in the first picture the pixels of later frames come from, by the flow from each frame to the next.

Flow k lies on the pixels of frame k, so that each pixel of a frame knows how it moves on. In smooth motion it came the same way: what it
shows in the frame before is looked for there. A place from which something else moved was covered then; it shows what is seen nearest to it
that moves as it does.
"""

import cv2
import numpy as np
import torch

from utils.flow.warp import warp

ONE_KD_TREE = 4  # FLANN's name of the exact search
ROUNDS = 4  # of looking for the place in the frame before
SHARE, CONSTANT = 0.4, 0.25  # flows of one thing in two frames differ by this share of the longer, plus pixels
ALIKE = 8.0  # pixels of distance that a pixel of difference in flow counts as, where covered places are filled


def move_along(image: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """A picture (3, H, W) as flow (F - 1, 2, H, W) from each frame to the next moves it: (F, 3, H, W)."""
    way = flow_way_back(flow).to(image)
    return warp(image.expand(len(way), -1, -1, -1), way)


def flow_way_back(flow: torch.Tensor) -> torch.Tensor:
    """For each pixel of each frame the way to its place in frame 0, float32 (F, 2, H, W), pixels, x then y.

    flow: (F - 1, 2, H, W), flow k on the pixels of frame k, to frame k + 1.
    """
    steps = flow.detach().float().cpu().movedim(1, -1).numpy()
    H, W = steps.shape[1:3]
    grid = np.stack(np.meshgrid(np.arange(W), np.arange(H)), axis=-1).astype(np.float32)
    ways = [np.zeros_like(grid)]
    for step, next_step in zip(steps, [*steps[1:], _carry_on(steps[-1], grid)], strict=True):
        back, seen = _step_back(step, next_step, grid)
        way = back + _look_up(ways[-1], grid + back)
        ways.append(_fill(way, seen, next_step, grid))
    return torch.from_numpy(np.stack(ways)).movedim(-1, 1)


def _step_back(step: np.ndarray, next_step: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The way (H, W, 2) to the frame before, and whether the pixel was seen there (H, W)."""
    back = -next_step
    for _ in range(ROUNDS):
        there = _look_up(step, grid + back)
        same = _same(there, next_step)
        back = np.where(same[..., None], -there, back)
    H, W = same.shape
    inside = ((grid + back > -1) & (grid + back < [W, H])).all(axis=-1)
    return back, same & inside


def _same(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Whether two flows (H, W, 2) may be of one thing."""
    longer = np.maximum(np.linalg.norm(first, axis=-1), np.linalg.norm(second, axis=-1))
    return np.linalg.norm(first - second, axis=-1) <= SHARE * longer + CONSTANT


def _look_up(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Values (H, W, 2) at the pixels nearest to places (H, W, 2): those between two things belong to one of them."""
    H, W = values.shape[:2]
    x, y = np.rint(places).astype(int).clip(0, [W - 1, H - 1]).transpose(2, 0, 1)
    return values[y, x]


def _fill(way: np.ndarray, seen: np.ndarray, step: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """The way, where a pixel was not seen before by that of the nearest one that was and moves as it does."""
    if seen.all() or not seen.any():
        return way
    features = np.concatenate([grid, ALIKE * step], axis=-1)
    nearest = _nearest(features[seen], features[~seen], 1)[:, 0]
    filled = way.copy()
    filled[~seen] = (grid + way)[seen][nearest] - grid[~seen]
    return filled


def _carry_on(step: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """The flow of the last frame, which has none: that of the one before, carried along itself, what is faster before what is slower."""
    H, W = step.shape[:2]
    order = np.argsort(np.linalg.norm(step, axis=-1), axis=None)
    places = np.rint(grid + step).astype(int).reshape(-1, 2)[order]
    inside = ((places >= 0) & (places < [W, H])).all(axis=1)
    x, y = places[inside].T
    carried, known = np.zeros_like(step), np.zeros((H, W), bool)
    carried[y, x] = step.reshape(-1, 2)[order][inside]
    known[y, x] = True
    return _fill_flow(carried, known, grid)


def _fill_flow(flow: np.ndarray, known: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Flow (H, W, 2), where it is not known that of the slowest of the nearest pixels: what was covered is behind."""
    if known.all() or not known.any():
        return flow
    nearest = _nearest(grid[known], grid[~known], min(8, int(known.sum())))
    around = flow[known][nearest]  # (M, count, 2)
    slowest = np.linalg.norm(around, axis=-1).argmin(axis=1)
    filled = flow.copy()
    filled[~known] = around[np.arange(len(around)), slowest]
    return filled


def _nearest(points: np.ndarray, places: np.ndarray, count: int) -> np.ndarray:
    """Numbers (M, count) of the points (N, D) nearest to places (M, D), exactly."""
    index = cv2.flann_Index(np.ascontiguousarray(points, np.float32), {"algorithm": ONE_KD_TREE})
    return index.knnSearch(np.ascontiguousarray(places, np.float32), count, params={"checks": -1})[0]
