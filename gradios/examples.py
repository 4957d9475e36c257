"""Inputs of the examples, rendered from the procedural world: no file is shipped, and the small models know it."""

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from utils.depth import write_depth
from utils.scenes import UNSEEN, caption, render, sample_clip, sample_scene
from utils.video import write_video

SIZE = 256  # pixels
CLIPS = (0, 4, 7)  # seeds from UNSEEN on


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


@cache
def clip_files(number: int) -> tuple[str, dict, str, float]:
    """First frame of an unseen clip, tracks in its pixels, a camera preset and its speed.

    0: an object is dragged where it goes in the clip, and the floor is kept; 1: the camera pans; 2: two paths.
    """
    clip = sample_clip(UNSEEN + CLIPS[number], 8, camera="still")
    scene = clip.at(0)
    image = folder() / f"clip_{number}.png"
    rendering = render(scene, SIZE)
    Image.fromarray(rendering.image).save(image)
    if number == 1:
        return str(image), {}, "pan_right", 6.0
    tracks = []
    for label in range(1 if number == 0 else 2):
        rows, columns = (rendering.labels == label).nonzero()
        x, y = float(columns.mean()), float(rows.mean())
        reach = 70.0 if x < SIZE / 2 else -70.0
        tracks.append([[x + reach * k / 15, y] for k in range(16)])
    return str(image), {"tracks": tracks, "static_points": [[20.0, SIZE - 12.0], [SIZE - 20.0, SIZE - 12.0]]}, "", 1.0


@cache
def clip_video(number: int) -> str:
    """A short unseen clip."""
    clip = sample_clip(UNSEEN + number, 8)
    frames = np.stack([render(clip.at(t), SIZE // 2).image for t in range(clip.num_frames)])
    path = folder() / f"video_{number}.mp4"
    write_video(path, frames, 7)
    return str(path)


@cache
def first_frame(number: int, frame: int = 0) -> str:
    """A frame of an unseen clip of 8 frames."""
    path = folder() / f"frame_{number}_{frame}.png"
    Image.fromarray(render(sample_clip(UNSEEN + number, 8).at(frame), SIZE).image).save(path)
    return str(path)
