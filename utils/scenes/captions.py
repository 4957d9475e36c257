"""Scenes and clips in words."""

import numpy as np

from utils.scenes.motion import CameraMotion, Clip, SolidMotion
from utils.scenes.world import Scene, Solid

CIRCLE = 3.0  # radians of turn over a clip from which a path is a circle
DIRECTIONS = ("right", "away", "left", "closer")
CAMERA_WORDS = {
    "pan": ("pans right", "pans left"),
    "truck": ("moves right", "moves left"),
    "dolly": ("moves forward", "moves back"),
}


def caption(scene: Scene) -> str:
    """Objects from left to right, floor and wall: "a red cube and a small blue cone on a gray floor, white wall"."""
    return f"{_listed([_name(solid) for solid in scene.objects])} {_place(scene)}"


def clip_caption(clip: Clip) -> str:
    """As `caption`, with motions: "a red cube moves left on a gray floor, white wall, camera pans left"."""
    actions = [
        f"{_name(solid)} {_verb(motion, clip.num_frames)}"
        for solid, motion in zip(clip.scene.objects, clip.motions, strict=True)
    ]
    return f"{_listed(actions)} {_place(clip.scene)}{_camera(clip.camera_motion)}"


def _verb(motion: SolidMotion, num_frames: int) -> str:
    if motion.vx == motion.vz == 0:
        return "spins" if motion.spin else "stays"
    if abs(motion.bend) * (num_frames - 1) > CIRCLE:
        return "circles"
    middle = np.arctan2(motion.vz, motion.vx) + motion.bend * (num_frames - 1) / 2
    return f"moves {DIRECTIONS[round(middle / (np.pi / 2)) % 4]}"


def _camera(motion: CameraMotion) -> str:
    moves = [words[speed < 0] for name, words in CAMERA_WORDS.items() if (speed := getattr(motion, name))]
    return f", camera {' and '.join(moves)}" if moves else ""


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _place(scene: Scene) -> str:
    return f"on a {scene.floor} floor, {scene.wall} wall"


def _name(solid: Solid) -> str:
    words = " ".join(filter(None, [solid.size, solid.color, solid.shape]))
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
