"""Random scenes. A scene is planned anew until each of its objects is visible."""

from itertools import combinations

import numpy as np

from utils.scenes.render import camera_rays, cast
from utils.scenes.world import COLORS, FLOORS, SHAPES, SIZES, WALLS, Camera, Scene, Solid

UNSEEN = 2_000_000  # first seed of the evaluations, of which no model or judge has learned
CHECK_SIZE = 24
MIN_AREA = 0.015  # share of the image that the visible part of an object covers
MIN_VISIBLE = 0.55  # share of an object that is not behind others


def check_unseen(first_seed: int) -> None:
    """Raise a ValueError for a seed that a model or a judge may have learned from."""
    if first_seed < UNSEEN:
        raise ValueError(f"--first_seed {first_seed}: a training may have seen it, take {UNSEEN} or more.")


def sample_scene(seed: int, num_objects: int | None = None) -> Scene:
    """The scene of a seed, with num_objects or one to three objects, each in view and at most partly hidden."""
    rng = np.random.default_rng(seed)
    drawn = int(rng.choice([1, 2, 3], p=[0.25, 0.4, 0.35]))
    count = num_objects or drawn
    while True:
        scene = _draw(rng, count)
        if _stand_apart(scene) and _all_visible(scene):
            return scene


def _draw(rng: np.random.Generator, count: int) -> Scene:
    camera = Camera(height=rng.uniform(1.4, 2.8), pitch=rng.uniform(0.2, 0.42), focal=rng.uniform(1.0, 1.2))
    objects = sorted((_draw_solid(rng) for _ in range(count)), key=lambda solid: solid.x / solid.z)
    azimuth, height = rng.uniform(-1.3, 1.3), rng.uniform(0.6, 1.1)
    light = (np.cos(height) * np.sin(azimuth), np.sin(height), -np.cos(height) * np.cos(azimuth))
    return Scene(
        objects=tuple(objects),
        floor=str(rng.choice(list(FLOORS))),
        wall=str(rng.choice(list(WALLS))),
        wall_z=rng.uniform(5.5, 8.0),
        wall_yaw=rng.uniform(-0.35, 0.35),
        light=tuple(map(float, light)),
        camera=camera,
    )


def _draw_solid(rng: np.random.Generator) -> Solid:
    size = str(rng.choice(list(SIZES)))
    z = rng.uniform(2.8, 5.0)
    return Solid(
        shape=str(rng.choice(SHAPES)),
        color=str(rng.choice(list(COLORS))),
        size=size,
        radius=rng.uniform(*SIZES[size]),
        x=z * rng.uniform(-0.36, 0.36),
        z=z,
        yaw=rng.uniform(0, np.pi / 2),
    )


def _stand_apart(scene: Scene) -> bool:
    """Whether no two solids touch, and their centres are far enough apart in the image to tell left from right."""
    return all(
        np.hypot(a.x - b.x, a.z - b.z) > 1.25 * (a.radius + b.radius) and abs(a.x / a.z - b.x / b.z) > 0.12
        for a, b in combinations(scene.objects, 2)
    )


def _all_visible(scene: Scene) -> bool:
    """Whether enough of each object is inside the image and not hidden, and none reaches into the wall."""
    origin, directions = camera_rays(scene.camera, CHECK_SIZE)
    labels = cast(scene, origin, directions).label
    for index, solid in enumerate(scene.objects):
        alone = Scene((solid,), scene.floor, scene.wall, scene.wall_z, scene.wall_yaw, scene.light, scene.camera)
        whole = (cast(alone, origin, directions).label == 0).sum()
        seen = (labels == index).sum()
        if seen < max(MIN_VISIBLE * whole, MIN_AREA * len(labels)):
            return False
    return True
