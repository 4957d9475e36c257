"""Render a clip with its exact depth, flow, occlusion and tracks."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from utils.scenes.motion import Clip
from utils.scenes.render import render
from utils.scenes.tracking import flow_between, track


@dataclass(frozen=True)
class ClipRendering:
    """Frames of a clip and their truth; coordinates are pixels, x then y, from the middle of the upper left one.

    Attributes:
        video: uint8 (F, H, W, 3).
        depth: float32 (F, H, W), metres along the optical axis.
        labels: int8 (F, H, W), as in `Rendering`.
        flow: float32 (F - 1, 2, H, W), from frame t to frame t + 1.
        backward_flow: float32 (F - 1, 2, H, W), from frame t + 1 to frame t.
        occluded: bool (F - 1, H, W): pixels of frame t that are hidden or outside in frame t + 1.
        backward_occluded: bool (F - 1, H, W): pixels of frame t + 1 that are hidden or outside in frame t.
        tracks: float32 (F, N, 2), points visible in frame 0.
        visible: bool (F, N).
    """

    video: np.ndarray
    depth: np.ndarray
    labels: np.ndarray
    flow: np.ndarray
    backward_flow: np.ndarray
    occluded: np.ndarray
    backward_occluded: np.ndarray
    tracks: np.ndarray
    visible: np.ndarray


def render_clip(clip: Clip, size: int = 64, samples: int = 3, num_tracks: int = 64) -> ClipRendering:
    """Render all frames; `num_tracks` points are tracked, half of them on objects."""
    scenes = [clip.at(t) for t in range(clip.num_frames)]
    frames = [render(scene, size, samples) for scene in scenes]
    flow, occluded = clip_flow(clip, size)
    backward_flow, backward_occluded = clip_flow(clip, size, backward=True)
    tracks, visible = track(clip, choose_points(frames[0].labels, num_tracks), size)
    seen = (np.stack([getattr(frame, name) for frame in frames]) for name in ("image", "depth", "labels"))
    return ClipRendering(*seen, flow, backward_flow, occluded, backward_occluded, tracks, visible)


def clip_flow(clip: Clip, size: int, backward: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Exact flow float32 (F - 1, 2, H, W) between neighbours, and occlusion bool (F - 1, H, W)."""
    scenes = [clip.at(t) for t in range(clip.num_frames)]
    results = [flow_between(*(pair[::-1] if backward else pair), size) for pair in pairwise(scenes)]
    return np.stack([flow for flow, _ in results]), np.stack([occluded for _, occluded in results])


def choose_points(labels: np.ndarray, count: int) -> np.ndarray:
    """Pixels (count, 2), x then y, half on objects and half anywhere; the same labels (H, W) give the same points."""
    rng = np.random.default_rng(0)
    on_objects = np.argwhere(labels >= 0)
    if not len(on_objects):
        on_objects = np.argwhere(labels < 0)
    anywhere = np.argwhere(np.ones_like(labels, bool))
    chosen = [rng.choice(on_objects, count // 2), rng.choice(anywhere, count - count // 2)]
    return np.concatenate(chosen)[:, ::-1].astype(float)
