"""Shapes and colours kept, on drawn squares with known answers."""

import math

import pytest
import torch

from utils.metrics.shape import color_drift, shape_kept

SIDE = 32


def box(left, top, width, height):
    mask = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    mask[top : top + height, left : left + width] = True
    return mask


def clip(*frames):
    """Masks (F, 1, H, W)."""
    return torch.stack(frames)[:, None]


STILL = clip(box(4, 4, 6, 6), box(4, 4, 6, 6), box(4, 4, 6, 6))


def test_a_square_that_moves_keeps_its_shape_wherever_the_true_one_goes():
    assert shape_kept(clip(box(4, 4, 6, 6), box(9, 6, 6, 6), box(15, 20, 6, 6)), STILL) == 1


def test_a_square_that_swells_keeps_a_quarter_of_it_and_all_of_it_where_the_true_one_swells():
    swelling = clip(box(4, 4, 6, 6), box(1, 1, 12, 12), box(1, 1, 12, 12))
    assert shape_kept(swelling, STILL) == pytest.approx(1 / 4)
    assert shape_kept(swelling, swelling) == 1


def test_a_square_that_smears_to_twice_its_width_keeps_half():
    assert shape_kept(clip(box(4, 4, 6, 6), box(8, 4, 12, 6), box(8, 4, 12, 6)), STILL) == pytest.approx(1 / 2)


def test_a_square_that_vanishes_keeps_nothing_in_the_frames_without_it():
    gone = clip(box(4, 4, 6, 6), box(4, 4, 6, 6), box(0, 0, 0, 0))
    assert shape_kept(gone, STILL) == pytest.approx(1 / 2)


def test_frames_in_which_the_true_object_is_hidden_do_not_count():
    hidden = clip(box(4, 4, 6, 6), box(4, 4, 6, 6), box(4, 4, 2, 6))
    assert shape_kept(clip(box(4, 4, 6, 6), box(4, 4, 6, 6), box(0, 0, 0, 0)), hidden) == 1
    assert math.isnan(shape_kept(STILL, clip(box(4, 4, 6, 6), box(0, 0, 0, 0), box(0, 0, 0, 0))))


def test_objects_count_alike():
    masks = torch.cat([STILL, clip(box(20, 20, 4, 4), box(20, 20, 8, 8), box(20, 20, 8, 8))], dim=1)
    truth = torch.cat([STILL, clip(*[box(20, 20, 4, 4)] * 3)], dim=1)
    assert shape_kept(masks, truth) == pytest.approx((1 + 1 / 4) / 2)


def test_drift_is_the_distance_of_mean_colors_in_levels():
    video = -torch.ones(3, 3, SIDE, SIDE)
    video[1, 0, 4:10, 4:10] = 2 * 30 / 255 - 1
    video[1, 1, 4:10, 4:10] = 2 * 40 / 255 - 1
    assert color_drift(video, STILL, STILL) == pytest.approx(50 / 2, rel=1e-4)
    lost = clip(box(4, 4, 6, 6), box(0, 0, 0, 0), box(4, 4, 6, 6))
    assert color_drift(video, lost, STILL) == pytest.approx(0, abs=1e-4)


def test_masks_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="as many of the true clip"):
        shape_kept(STILL, STILL[:2])
