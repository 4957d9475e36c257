"""From a scene to an image and its exact depth, by casting rays."""

from dataclasses import dataclass

import numpy as np

from utils.scenes.geometry import EPSILON, intersect, meet_plane
from utils.scenes.texture import pattern
from utils.scenes.world import COLORS, FLOORS, WALLS, Camera, Scene

FLOOR, WALL = -1, -2
AMBIENT = 0.38
NEAREST = 0.05  # metres; points nearer than this, or behind the camera, are projected from this depth


@dataclass(frozen=True)
class Rendering:
    """An image of a scene.

    Attributes:
        image: uint8 (H, W, 3).
        depth: float32 (H, W), metres along the optical axis, at the middles of the pixels.
        labels: int8 (H, W): index of the visible object, `FLOOR` or `WALL`, at the middles of the pixels.
    """

    image: np.ndarray
    depth: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Hits:
    """Hits of rays: distance (N,) in units of the direction's length, label (N,), normal (N, 3)."""

    distance: np.ndarray
    label: np.ndarray
    normal: np.ndarray


def render(scene: Scene, size: int = 64, samples: int = 3) -> Rendering:
    """Render a square of `size` pixels; the colours are means over samples x samples rays of a pixel.

    Directions have length 1 along the optical axis, so that distance is depth. `samples` is odd for one ray to pass
    through the middle of each pixel.
    """
    if samples % 2 == 0:
        raise ValueError(f"samples={samples} has to be odd, so that one ray passes through the middle of each pixel.")
    origin, directions = camera_rays(scene.camera, size * samples)
    hits = cast(scene, origin, directions)
    colors = shade(scene, hits, origin + directions * hits.distance[:, None])
    colors = colors.reshape(size, samples, size, samples, 3).mean(axis=(1, 3))
    middle = slice(samples // 2, None, samples)
    grid = (size * samples, size * samples)
    return Rendering(
        image=np.rint(255 * np.clip(colors, 0, 1) ** (1 / 1.4)).astype(np.uint8),
        depth=hits.distance.reshape(grid)[middle, middle].astype(np.float32),
        labels=hits.label.reshape(grid)[middle, middle].astype(np.int8),
    )


def camera_rays(camera: Camera, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Origin (3,) and directions (size * size, 3), row by row from the upper left."""
    steps = ((np.arange(size) + 0.5) / size - 0.5) / camera.focal
    right, down = np.meshgrid(steps, steps)
    return camera_origin(camera), _directions(camera, right.ravel(), down.ravel())


def pixel_rays(camera: Camera, pixels: np.ndarray, size: int) -> np.ndarray:
    """Directions (N, 3) through points (N, 2) of an image, x then y; (0, 0) is the middle of the upper left pixel."""
    right, down = (((pixels + 0.5) / size - 0.5) / camera.focal).T
    return _directions(camera, right, down)


def project(camera: Camera, points: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (N, 2), x then y, and depth (N,) of points (N, 3) of the world; the inverse of `pixel_rays`."""
    right, down, ahead = _axes(camera) @ (points - camera_origin(camera)).T
    safe = np.maximum(ahead, NEAREST)
    pixels = (np.stack([right / safe, down / safe], axis=1) * camera.focal + 0.5) * size - 0.5
    return pixels, ahead


def camera_origin(camera: Camera) -> np.ndarray:
    """Where the camera is, (3,)."""
    return np.array([camera.x, camera.height, camera.z])


def _directions(camera: Camera, right: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Rays (N, 3) of length 1 along the optical axis."""
    c, s = np.cos(camera.pitch), np.sin(camera.pitch)
    up, ahead = -down * c - s, c - down * s
    c, s = np.cos(camera.yaw), np.sin(camera.yaw)
    return np.stack([right * c + ahead * s, up, ahead * c - right * s], axis=-1)


def _axes(camera: Camera) -> np.ndarray:
    """Unit vectors (3, 3) to the right, down and ahead of the camera."""
    ahead, right, down = _directions(camera, np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0]))
    return np.stack([right - ahead, down - ahead, ahead])


def cast(scene: Scene, origin: np.ndarray, directions: np.ndarray) -> Hits:
    """The nearest thing along each ray."""
    origins = np.broadcast_to(origin, directions.shape)
    up, ahead = np.array([0.0, 1.0, 0.0]), wall_normal(scene)
    floor = meet_plane(up, 0.0, origins, directions)
    wall = meet_plane(ahead, ahead[2] * scene.wall_z, origins, directions)
    on_floor = floor < wall
    hits = Hits(np.minimum(floor, wall), np.where(on_floor, FLOOR, WALL), np.where(on_floor[:, None], up, ahead))
    for index, solid in enumerate(scene.objects):
        distance, normal = intersect(solid, origins, directions)
        nearer = distance < hits.distance
        hits.distance[nearer], hits.label[nearer], hits.normal[nearer] = distance[nearer], index, normal[nearer]
    return hits


def shade(scene: Scene, hits: Hits, points: np.ndarray) -> np.ndarray:
    """Linear colours (N, 3): ambient and diffuse light of one sun, with shadows."""
    palette = np.array([COLORS[s.color] for s in scene.objects] + [WALLS[scene.wall], FLOORS[scene.floor]])
    albedo = palette[hits.label]
    if scene.texture:
        albedo = albedo * (1 + scene.texture * pattern(scene, hits.label, points))[:, None]
    light = np.array(scene.light)
    diffuse = np.clip(hits.normal @ light, 0, 1)
    lit = diffuse > 0
    diffuse[lit] *= ~_shadowed(scene, points[lit] + hits.normal[lit] * 10 * EPSILON, light)
    return albedo * (AMBIENT + (1 - AMBIENT) * diffuse)[:, None]


def _shadowed(scene: Scene, points: np.ndarray, light: np.ndarray) -> np.ndarray:
    rays = np.broadcast_to(light, points.shape)
    dark = np.zeros(len(points), bool)
    for solid in scene.objects:
        dark |= np.isfinite(intersect(solid, points, rays)[0])
    return dark


def wall_normal(scene: Scene) -> np.ndarray:
    """Unit normal of the wall, towards the camera."""
    return -np.array([np.sin(scene.wall_yaw), 0.0, np.cos(scene.wall_yaw)])
