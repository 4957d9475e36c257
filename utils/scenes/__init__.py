"""The procedural world: solids of named colours on a floor before a wall, with exact depth and a caption, from a seed.

Still scenes (`sample_scene`, `render`) and clips in motion with exact flow and tracks (`sample_clip`, `render_clip`).
"""

from utils.scenes.captions import caption, clip_caption
from utils.scenes.clips import sample_clip
from utils.scenes.edits import ColorEdit, recolor, sample_color_edit
from utils.scenes.motion import CameraMotion, Clip, SolidMotion
from utils.scenes.render import Rendering, render
from utils.scenes.sampling import UNSEEN, check_unseen, sample_scene
from utils.scenes.video import ClipRendering, render_clip
from utils.scenes.world import COLORS, FLOORS, SHAPES, WALLS, Camera, Scene, Solid

__all__ = [
    "COLORS",
    "FLOORS",
    "SHAPES",
    "UNSEEN",
    "WALLS",
    "Camera",
    "CameraMotion",
    "Clip",
    "ClipRendering",
    "ColorEdit",
    "Rendering",
    "Scene",
    "Solid",
    "SolidMotion",
    "caption",
    "check_unseen",
    "clip_caption",
    "recolor",
    "render",
    "render_clip",
    "sample_clip",
    "sample_color_edit",
    "sample_scene",
]
