"""The procedural world: solids of named colours on a floor before a wall, with exact depth and a caption, from a seed."""

from utils.scenes.captions import caption
from utils.scenes.render import Rendering, render
from utils.scenes.sampling import sample_scene
from utils.scenes.world import COLORS, FLOORS, SHAPES, WALLS, Camera, Scene, Solid

__all__ = [
    "COLORS",
    "FLOORS",
    "SHAPES",
    "WALLS",
    "Camera",
    "Rendering",
    "Scene",
    "Solid",
    "caption",
    "render",
    "sample_scene",
]
