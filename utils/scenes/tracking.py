"""Exact flow, occlusion and tracks of a clip.

A visible point of one frame is fixed to its material, moved with it, and projected into another frame. It is visible
there if it lies inside the image and the ray through it meets nothing before it.
"""

from dataclasses import dataclass

import numpy as np

from utils.scenes.geometry import to_local, to_world
from utils.scenes.motion import Clip
from utils.scenes.render import camera_origin, cast, pixel_rays, project
from utils.scenes.world import Scene

TOLERANCE = 2e-3  # metres by which something has to be nearer to hide a point


@dataclass(frozen=True)
class Surface:
    """Points of material: labels (N,) as in `Rendering`, positions (N, 3) in the frame of the solid or world."""

    labels: np.ndarray
    positions: np.ndarray


def pick(scene: Scene, pixels: np.ndarray, size: int) -> Surface:
    """The visible material at pixels (N, 2), x then y."""
    origin, directions = camera_origin(scene.camera), pixel_rays(scene.camera, pixels, size)
    hits = cast(scene, origin, directions)
    positions = origin + directions * hits.distance[:, None]
    for index, solid in enumerate(scene.objects):
        on_it = hits.label == index
        positions[on_it] = to_local(solid, positions[on_it])
    return Surface(hits.label, positions)


def locate(scene: Scene, surface: Surface, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (N, 2) and visibility (N,) of that material in another frame's scene."""
    points = surface.positions.copy()
    for index, solid in enumerate(scene.objects):
        on_it = surface.labels == index
        points[on_it] = to_world(solid, points[on_it])
    pixels, depth = project(scene.camera, points, size)
    inside = ((pixels >= -0.5) & (pixels <= size - 0.5)).all(axis=1) & (depth > 0)
    first = cast(scene, camera_origin(scene.camera), pixel_rays(scene.camera, pixels, size)).distance
    return pixels, inside & (first > depth - TOLERANCE)


def flow_between(scene: Scene, other: Scene, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Flow float32 (2, H, W) from one scene to another, and whether its end is hidden or outside, bool (H, W)."""
    pixels = np.stack(np.meshgrid(np.arange(size), np.arange(size)), axis=-1).reshape(-1, 2).astype(float)
    ends, visible = locate(other, pick(scene, pixels, size), size)
    flow = (ends - pixels).T.reshape(2, size, size)
    return flow.astype(np.float32), ~visible.reshape(size, size)


def track(clip: Clip, pixels: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Tracks float32 (F, N, 2) of the material at pixels (N, 2) of frame 0, and visibility bool (F, N)."""
    surface = pick(clip.scene, pixels, size)
    places = [locate(clip.at(t), surface, size) for t in range(clip.num_frames)]
    return np.stack([place for place, _ in places]).astype(np.float32), np.stack([seen for _, seen in places])
