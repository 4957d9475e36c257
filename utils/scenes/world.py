"""What a scene is. Metres; x to the right, y up, z away from the camera, which stands above the origin."""

from dataclasses import dataclass

Vector = tuple[float, float, float]

COLORS: dict[str, Vector] = {
    "red": (0.85, 0.10, 0.10),
    "orange": (0.98, 0.50, 0.05),
    "yellow": (0.95, 0.88, 0.10),
    "green": (0.10, 0.62, 0.18),
    "cyan": (0.10, 0.80, 0.85),
    "blue": (0.12, 0.22, 0.85),
    "purple": (0.48, 0.14, 0.68),
    "pink": (0.98, 0.50, 0.72),
}
SHAPES = ("cube", "sphere", "cylinder", "cone")
SIZES = {"small": (0.36, 0.44), "": (0.52, 0.64), "large": (0.74, 0.90)}
FLOORS: dict[str, Vector] = {
    "gray": (0.50, 0.50, 0.52),
    "brown": (0.46, 0.33, 0.22),
    "white": (0.86, 0.86, 0.84),
    "black": (0.16, 0.16, 0.18),
}
WALLS: dict[str, Vector] = {
    "white": (0.92, 0.92, 0.90),
    "gray": (0.62, 0.62, 0.64),
    "beige": (0.86, 0.76, 0.60),
    "teal": (0.24, 0.46, 0.46),
}


@dataclass(frozen=True)
class Solid:
    """A solid that stands on the floor.

    Attributes:
        shape: One of `SHAPES`.
        color: Key of `COLORS`.
        size: Key of `SIZES`, "" for the middle one.
        radius: Half of the width, and of the height, in metres.
        x, z: Where its axis stands.
        yaw: Turn about its axis in radians.
    """

    shape: str
    color: str
    size: str
    radius: float
    x: float
    z: float
    yaw: float


@dataclass(frozen=True)
class Camera:
    """A pinhole camera, above the origin unless x and z say otherwise.

    Attributes:
        height, x, z: Where it stands, in metres.
        pitch, yaw: Its turn down and to the right, in radians.
        focal: Focal length in image widths.
    """

    height: float
    pitch: float
    focal: float
    x: float = 0.0
    z: float = 0.0
    yaw: float = 0.0


@dataclass(frozen=True)
class Scene:
    """A still world.

    Attributes:
        objects: From left to right as the camera sees their middles.
        floor, wall: Keys of `FLOORS` and `WALLS`.
        wall_z, wall_yaw: The wall passes through (0, 0, wall_z), turned by wall_yaw radians.
        light: Unit vector towards the sun.
        texture: Strength of a soft pattern on all surfaces, 0 (plain colours) to 1. It makes motion visible.
    """

    objects: tuple[Solid, ...]
    floor: str
    wall: str
    wall_z: float
    wall_yaw: float
    light: Vector
    camera: Camera
    texture: float = 0.0
