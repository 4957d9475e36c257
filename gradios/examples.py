"""Inputs of the examples, rendered from the procedural world: no file is shipped, and the small models know it."""

import tempfile
from functools import cache
from pathlib import Path

from PIL import Image

from utils.depth import write_depth
from utils.scenes import UNSEEN, caption, render, sample_scene

SIZE = 256  # pixels


@cache
def folder() -> Path:
    """Of the files of this process."""
    return Path(tempfile.mkdtemp(prefix="duet-examples-"))


@cache
def scene_files(number: int) -> tuple[str, str, str]:
    """Image, depth in millimetres and prompt of an unseen scene."""
    scene = sample_scene(UNSEEN + number)
    rendering = render(scene, SIZE)
    image, depth = folder() / f"scene_{number}.png", folder() / f"scene_{number}_depth.png"
    Image.fromarray(rendering.image).save(image)
    write_depth(depth, rendering.depth)
    return str(image), str(depth), caption(scene)
