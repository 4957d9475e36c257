"""Scenes with points to drag, and the true video of each drag.

One to three solids of an unseen scene are given new motions: in any direction of the floor, on arcs that bend as no
training's do, at least `SHORTEST` pixels far. The wanted path of each is that of the centroid of its visible pixels, so
that a true video of it exists and is rendered. The camera stands still, and the other solids move as the scene has it.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from benchmarks.svd_clips import PLANNED_FRAMES
from utils.data.cache import cache_key
from utils.files import replacing
from utils.scenes import CameraMotion, Clip, Scene, SolidMotion, render, sample_clip
from utils.scenes.clips import fits
from utils.scenes.render import camera_rays, cast, project
from utils.tracks import Tracks
from utils.video import to_pixels

SHORTEST, LONGEST = 12.0, 32.0  # pixels of an image 64 wide, from the first to the last place
BENDS = (0.1, 0.3)  # radians per frame, to either side: between the gentle curves and the circles of the training
SMALLEST = 0.5  # share of its first area that a dragged solid keeps in view
ATTEMPTS = 150  # to find a motion for a solid
SEEDS_EACH = 1000  # that a drag may try
STREAM = 6  # of the seed: motions of drags are no others
MAX_POINTS = 3


@dataclass(frozen=True)
class DragScene:
    """A scene with the wanted paths of its dragged objects.

    Attributes:
        seed: Of the scene.
        video: uint8 (F, H, W, 3), the true video of the wanted paths.
        points: float32 (F, N, 2), wanted paths in pixels, x then y.
        dragged: Numbers of the N dragged objects.
        colors: Of all objects; no two are the same.
        floor, wall: Of the scene.
    """

    seed: int
    video: np.ndarray
    points: np.ndarray
    dragged: tuple[int, ...]
    colors: tuple[str, ...]
    floor: str
    wall: str

    @property
    def pixels(self) -> torch.Tensor:
        """The true video (F, 3, H, W) in [-1, 1]."""
        return to_pixels(self.video)

    @property
    def tracks(self) -> Tracks:
        return Tracks(torch.from_numpy(self.points), self.video.shape[2], self.video.shape[1])


@dataclass(frozen=True)
class DragScenes:
    """Scenes by their number, planned once and kept in a cache folder. Scene i has 1 + i % 3 points.

    Attributes:
        cache_dir: Folder of all caches.
        first_seed: Scene i tries the seeds from first_seed + `SEEDS_EACH` i on.
        num_frames: F.
        resolution: Side in pixels.
    """

    cache_dir: str
    first_seed: int
    num_frames: int = 8
    resolution: int = 64

    @property
    def folder(self) -> Path:
        rules = [PLANNED_FRAMES, SHORTEST, LONGEST, BENDS, SMALLEST, ATTEMPTS, SEEDS_EACH, STREAM, MAX_POINTS]
        key = cache_key(rules, self.first_seed, self.num_frames, self.resolution)
        return Path(self.cache_dir) / f"drags-{key}"

    @lru_cache(maxsize=32)  # noqa: B019, an evaluation lives as long as the process
    def scene(self, index: int) -> DragScene:
        path = self.folder / f"{index:06d}.npz"
        if not path.is_file():
            first = self.first_seed + index * SEEDS_EACH
            found = find_drag(
                range(first, first + SEEDS_EACH), 1 + index % MAX_POINTS, self.num_frames, self.resolution
            )
            with replacing(path) as temporary, temporary.open("wb") as file:
                np.savez_compressed(file, **vars(found))
        with np.load(path) as a:
            names = {name: str(a[name]) for name in ("floor", "wall")}
            dragged, colors = tuple(a["dragged"].tolist()), tuple(a["colors"].tolist())
            return DragScene(int(a["seed"]), a["video"], a["points"], dragged, colors, **names)


def find_drag(seeds: range, num_points: int, num_frames: int, size: int) -> DragScene:
    """The first of some seeds' scenes in which so many points can be dragged.

    Raises:
        ValueError: In none of them.
    """
    for seed in seeds:
        found = plan_drag(seed, num_points, num_frames, size)
        if found:
            return found
    raise ValueError(f"No scene of the seeds {seeds.start} to {seeds.stop - 1} has room to drag {num_points} points.")


def plan_drag(seed: int, num_points: int, num_frames: int, size: int) -> DragScene | None:
    """Wanted paths in a seed's scene; None where it has too few objects, two of one colour, or no room.

    Where fewer than all are dragged there is another object, for its motion to be measured.
    """
    clip = sample_clip(seed, max(num_frames, PLANNED_FRAMES))
    colors = tuple(solid.color for solid in clip.scene.objects)
    if len(colors) < min(num_points + 1, MAX_POINTS) or len(set(colors)) < len(colors):
        return None
    rng = np.random.default_rng([seed, STREAM])
    order = rng.choice(len(colors), num_points, replace=False).tolist()
    # Those whose turn has not come yet stand still.
    motions = [SolidMotion() if number in order else motion for number, motion in enumerate(clip.motions)]
    for turn in range(num_points):
        if not find_motion(rng, clip.scene, motions, order[: turn + 1], num_frames, size):
            return None
    dragged = sorted(order)
    wanted = Clip(clip.scene, tuple(motions), CameraMotion(), num_frames)
    points = follow_drags(wanted, dragged, size)
    video = np.stack([render(wanted.at(t), size).image for t in range(num_frames)])
    return DragScene(seed, video, points, tuple(dragged), colors, clip.scene.floor, clip.scene.wall)


def find_motion(rng, scene: Scene, motions: list[SolidMotion], dragged: list[int], num_frames: int, size: int) -> bool:
    """Give the last of the dragged objects a motion that fits those of the others; False where none is found."""
    for _ in range(ATTEMPTS):
        motions[dragged[-1]] = draw_motion(rng, scene, dragged[-1], num_frames)
        wanted = Clip(scene, tuple(motions), CameraMotion(), num_frames)
        if may_fit(wanted, dragged[-1]) and follow_drags(wanted, dragged, size) is not None:
            return True
    return False


def may_fit(wanted: Clip, number: int) -> bool:
    """Whether the centre of a solid ends inside the image, about as far from its start as it should: a cheap check."""
    solids = [wanted.at(t).objects[number] for t in (0, wanted.num_frames - 1)]
    (start, end), ahead = project(wanted.scene.camera, np.array([(s.x, s.radius, s.z) for s in solids]), size=64)
    length = np.linalg.norm(end - start)
    return bool((ahead > 0).all() and (np.abs(end - 31.5) < 28).all() and 0.8 * SHORTEST <= length <= 1.2 * LONGEST)


def draw_motion(rng: np.random.Generator, scene: Scene, number: int, num_frames: int) -> SolidMotion:
    """An arc in any direction, whose length may be that of a drag."""
    solid, steps = scene.objects[number], num_frames - 1
    length = rng.uniform(SHORTEST, 1.5 * LONGEST) / 64 / steps * solid.z / scene.camera.focal
    heading, bend = rng.uniform(-math.pi, math.pi), rng.choice([-1, 1]) * rng.uniform(*BENDS)
    start = heading - bend * steps / 2
    return SolidMotion(float(length * math.cos(start)), float(length * math.sin(start)), float(bend))


def follow_drags(wanted: Clip, dragged: list[int], size: int) -> np.ndarray | None:
    """Paths (F, N, 2) of the centroids of dragged solids; None where one leaves the view or is too short."""
    if not fits(wanted):
        return None
    labels = np.stack([see(wanted.at(t), size) for t in range(wanted.num_frames)])
    if not all(stays_in_view(labels == number) for number in dragged):
        return None
    points = np.stack([[middle(frame == number) for number in dragged] for frame in labels]).astype(np.float32)
    lengths = np.linalg.norm(points[-1] - points[0], axis=-1) * 64 / size
    return points if (lengths >= SHORTEST).all() and (lengths <= LONGEST).all() else None


def see(scene: Scene, size: int) -> np.ndarray:
    """Labels (H, W) as in `Rendering`."""
    return cast(scene, *camera_rays(scene.camera, size)).label.reshape(size, size)


def middle(mask: np.ndarray) -> np.ndarray:
    """Centroid (2,) of a mask, x then y."""
    return np.argwhere(mask)[:, ::-1].mean(axis=0)


def stays_in_view(masks: np.ndarray) -> bool:
    """Whether a mask of a solid (F, H, W) keeps its area, holds its centroid and stays off the edges after frame 0."""
    areas = masks.sum(axis=(1, 2))
    later = masks[1:]
    on_itself = all(mask[tuple(np.rint(middle(mask)[::-1]).astype(int))] for mask in masks if mask.any())
    edges = later[:, [0, -1]].any() or later[:, :, [0, -1]].any()
    return on_itself and not edges and bool((areas >= SMALLEST * areas[0]).all())
