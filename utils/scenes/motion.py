"""How a world moves. Speeds are per frame: metres, radians."""

from dataclasses import dataclass, replace

import numpy as np

from utils.scenes.world import Camera, Scene, Solid


@dataclass(frozen=True)
class SolidMotion:
    """A path on the floor: a straight line, or with `bend` an arc of a circle.

    Attributes:
        vx, vz: Velocity in the first frame, metres per frame.
        bend: Turn of the velocity, radians per frame, from +x towards +z.
        spin: Turn of the solid about its axis, radians per frame.
    """

    vx: float = 0.0
    vz: float = 0.0
    bend: float = 0.0
    spin: float = 0.0

    def move(self, solid: Solid, t: float) -> Solid:
        """The solid, given in frame 0, in frame t."""
        step = complex(self.vx, self.vz) * _turned_time(self.bend, t)
        return replace(solid, x=float(solid.x + step.real), z=float(solid.z + step.imag), yaw=solid.yaw + self.spin * t)


@dataclass(frozen=True)
class CameraMotion:
    """A steady camera move, per frame: `pan` right in radians, `truck` right and `dolly` ahead in metres."""

    pan: float = 0.0
    truck: float = 0.0
    dolly: float = 0.0

    def move(self, camera: Camera, t: float) -> Camera:
        """The camera, given in frame 0, in frame t."""
        return replace(camera, x=camera.x + self.truck * t, z=camera.z + self.dolly * t, yaw=camera.yaw + self.pan * t)


@dataclass(frozen=True)
class Clip:
    """A moving world.

    Attributes:
        scene: The world in frame 0.
        motions: One for each of its objects.
        camera_motion: That of the camera.
        num_frames: Length.
    """

    scene: Scene
    motions: tuple[SolidMotion, ...]
    camera_motion: CameraMotion
    num_frames: int

    def at(self, t: float) -> Scene:
        """The world in frame t; objects keep their order of frame 0."""
        objects = tuple(motion.move(solid, t) for solid, motion in zip(self.scene.objects, self.motions, strict=True))
        return replace(self.scene, objects=objects, camera=self.camera_motion.move(self.scene.camera, t))


def _turned_time(bend: float, t: float) -> complex:
    """Integral of exp(i bend s) for s from 0 to t."""
    return t * np.exp(0.5j * bend * t) * np.sinc(bend * t / (2 * np.pi))
