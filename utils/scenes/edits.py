"""Clips of which one thing has another colour: what an edit by a prompt is to make of them is known."""

from dataclasses import dataclass, replace

import numpy as np

from utils.scenes.captions import caption
from utils.scenes.clips import sample_clip
from utils.scenes.motion import Clip
from utils.scenes.world import COLORS

STREAM = 2  # of the seed, so that the choice does not change the clip


@dataclass(frozen=True)
class ColorEdit:
    """A clip before and after one of its objects changes its colour.

    Attributes:
        source, target: The same clip before and after.
        index: Number of the object that changes.
    """

    source: Clip
    target: Clip
    index: int

    @property
    def source_prompt(self) -> str:
        """The caption of the source; it says nothing of motion."""
        return caption(self.source.scene)

    @property
    def prompt(self) -> str:
        """The caption of the target."""
        return caption(self.target.scene)

    @property
    def colors(self) -> tuple[str, str]:
        """Before and after."""
        return tuple(clip.scene.objects[self.index].color for clip in (self.source, self.target))


def recolor(clip: Clip, index: int, color: str) -> Clip:
    """The clip with one object in another colour; all else is as it was.

    Raises:
        ValueError: There is no such object or colour.
    """
    objects = list(clip.scene.objects)
    if not 0 <= index < len(objects) or color not in COLORS:
        raise ValueError(f"There is no object {index} or no colour {color!r}: name one of {', '.join(COLORS)}.")
    objects[index] = replace(objects[index], color=color)
    return replace(clip, scene=replace(clip.scene, objects=tuple(objects)))


def sample_color_edit(seed: int, num_frames: int = 16, **options) -> ColorEdit:
    """The clip of a seed, and the same one with an object in a colour that no object had before.

    It is one of a colour of its own, where there is one, so that the prompts name it.

    Args:
        num_frames, options: As of `sample_clip`.
    """
    clip = sample_clip(seed, num_frames, **options)
    rng = np.random.default_rng([seed, STREAM])
    colors = [solid.color for solid in clip.scene.objects]
    alone = [k for k, color in enumerate(colors) if colors.count(color) == 1] or range(len(colors))
    index = int(rng.choice(alone))
    free = [color for color in COLORS if color not in colors]
    return ColorEdit(clip, recolor(clip, index, str(rng.choice(free))), index)
