"""Clips of which one thing has another colour."""

import numpy as np
import pytest

from utils.scenes import recolor, render, sample_clip, sample_color_edit


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_target_is_the_source_with_one_thing_in_another_colour(seed):
    edit = sample_color_edit(seed, 4)
    assert edit.source == sample_clip(seed, 4)
    before, after = edit.colors
    assert after not in {solid.color for solid in edit.source.scene.objects}
    words = edit.source_prompt.split(), edit.prompt.split()
    assert [pair for pair in zip(*words, strict=True) if pair[0] != pair[1]] == [(before, after)]
    for t in (0, 3):
        old, new = (render(clip.at(t), 32, samples=1) for clip in (edit.source, edit.target))
        changed = (old.image != new.image).any(axis=-1)
        assert changed.any() and np.array_equal(old.labels, new.labels) and np.array_equal(old.depth, new.depth)
        assert (old.labels[changed] == edit.index).all()


def test_a_seed_gives_the_same_edit():
    assert sample_color_edit(7, 4) == sample_color_edit(7, 4)


def test_what_is_not_there_cannot_be_recoloured():
    clip = sample_clip(1, 4, num_objects=1)
    for index, color in ((1, "red"), (0, "beige")):
        with pytest.raises(ValueError, match="no object"):
            recolor(clip, index, color)
