"""Random clips. Frame 0 is the scene of the seed; motions are drawn anew until they fit into the world.

Half of the cameras stand still. Objects' speeds fall off exponentially from 0 to `MAX_SPEED`: most are slow, and the
fastest run in circles, which keeps them in view.
"""

from dataclasses import replace
from itertools import combinations

import numpy as np

from utils.scenes.motion import CameraMotion, Clip, SolidMotion
from utils.scenes.render import project, wall_normal
from utils.scenes.sampling import sample_scene
from utils.scenes.world import Scene, Solid

MAX_SPEED = 12 / 64  # image widths per frame at the object's depth
MEAN_SPEED = 2.5 / 64
STILL = 0.25  # share of objects that stay where they are
TEXTURE = 0.2
OBJECT_COUNTS = (1, 2, 3)
NEAREST = 1.5  # metres between the camera and a solid
DIRECTIONS = {"left": np.pi, "right": 0.0, "away": np.pi / 2, "closer": -np.pi / 2}
REACHES = {"still": 0.0, "pan": 0.35, "truck": 1.0, "dolly": 0.9}  # radians or metres over a clip
SHARES = [0.5, 0.2, 0.15, 0.15]
STREAM = 1  # a second stream of the seed, so that motions do not change the scene's random numbers


def sample_clip(
    seed: int,
    num_frames: int = 16,
    texture: float = TEXTURE,
    camera: str | None = None,
    num_objects: int | None = None,
) -> Clip:
    """The clip of a seed: `sample_scene(seed)` set in motion, with a soft texture that makes motion visible.

    Args:
        seed: Decides all of it.
        num_frames: Length.
        texture: Strength of the pattern on all surfaces, 0 to 1.
        camera: "still", "pan", "truck" or "dolly" for that move alone; random by default.
        num_objects: 1, 2 or 3; random by default.

    Raises:
        ValueError: Fewer than two frames, another camera, or another number of objects.
    """
    if num_frames < 2:
        raise ValueError(f"A clip has at least 2 frames, not num_frames={num_frames}.")
    if camera is not None and camera not in REACHES:
        raise ValueError(f"The camera does {', '.join(REACHES)}, not {camera!r}.")
    if num_objects not in (None, *OBJECT_COUNTS):
        raise ValueError(f"A clip has 1, 2 or 3 objects, not num_objects={num_objects}.")
    rng = np.random.default_rng([seed, STREAM])
    scene = replace(sample_scene(seed, num_objects), texture=texture)
    while True:
        motions = tuple(_draw_motion(rng, scene, solid) for solid in scene.objects)
        clip = Clip(scene, motions, _draw_camera(rng, num_frames, camera), num_frames)
        if fits(clip):
            return clip


def _draw_motion(rng: np.random.Generator, scene: Scene, solid: Solid) -> SolidMotion:
    spin = rng.choice([-1, 1]) * rng.uniform(0.06, 0.25) if rng.random() < 0.3 else 0.0
    if rng.random() < STILL:
        return SolidMotion(spin=float(spin))
    speed = min(rng.exponential(MEAN_SPEED), MAX_SPEED) * solid.z / scene.camera.focal
    heading = rng.choice(list(DIRECTIONS.values())) + rng.uniform(-0.3, 0.3)
    bend = _draw_bend(rng, speed)
    return SolidMotion(
        float(speed * np.cos(heading - bend)), float(speed * np.sin(heading - bend)), float(bend), float(spin)
    )


def _draw_bend(rng: np.random.Generator, speed: float) -> float:
    """Straight, a gentle curve, or a circle of 0.3 to 0.9 m."""
    side = rng.choice([-1, 1])
    kind = rng.random()
    if kind < 0.4:
        return 0.0
    return side * (rng.uniform(0.02, 0.08) if kind < 0.7 else min(speed / rng.uniform(0.3, 0.9), 0.9))


def _draw_camera(rng: np.random.Generator, num_frames: int, camera: str | None) -> CameraMotion:
    """Still, or one move of random length over the clip."""
    drawn = str(rng.choice(list(REACHES), p=SHARES))
    kind = camera or drawn
    way = rng.choice([-1, 1]) * rng.uniform(0.1, 1.0) / (num_frames - 1)
    return CameraMotion(**({} if kind == "still" else {kind: float(way * REACHES[kind])}))


def fits(clip: Clip) -> bool:
    """Whether no solid comes too near to another, wall or camera, and all are in view for half of the frames."""
    scenes = [clip.at(t) for t in range(clip.num_frames)]
    seen = np.array([_in_view(scene) for scene in scenes])
    rooms = np.array([_rooms(scene) for scene in scenes])
    return bool((seen.mean(axis=0) >= 0.5 * seen[0]).all() and (rooms >= np.minimum(rooms[0], 0) - 1e-9).all())


def _rooms(scene: Scene) -> list[float]:
    """Metres to spare between solids, to the wall and to the camera; negative if too near."""
    toward, camera = wall_normal(scene), scene.camera
    pairs = [np.hypot(a.x - b.x, a.z - b.z) - 1.25 * (a.radius + b.radius) for a, b in combinations(scene.objects, 2)]
    walls = [np.dot((s.x, 0.0, s.z - scene.wall_z), toward) - 1.42 * s.radius for s in scene.objects]
    cameras = [np.hypot(s.x - camera.x, s.z - camera.z) - NEAREST - s.radius for s in scene.objects]
    return pairs + walls + cameras


def _in_view(scene: Scene) -> np.ndarray:
    middles = np.array([(solid.x, solid.radius, solid.z) for solid in scene.objects])
    pixels, depth = project(scene.camera, middles, size=1)
    return (np.abs(pixels) < 0.5).all(axis=1) & (depth > 0)
