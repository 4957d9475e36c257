"""A guess of where pixels of later frames come from, on pictures of which it is known."""

import pytest
import torch

from utils.tracks.way_back import guess_way_back, mattes, move_picture

F, H, W = 3, 32, 48
BLUE, SAND = torch.tensor([-0.6, -0.4, 0.8]), torch.tensor([0.6, 0.4, 0.0])
STEP = torch.tensor([8.0, 4.0])
START = torch.tensor([12.0, 11.0])


def picture(x=9, y=8):
    """A blue square of 7x7 pixels on sand."""
    image = SAND[:, None, None].expand(3, H, W).clone()
    image[:, y : y + 7, x : x + 7] = BLUE[:, None, None]
    return image


def dragged():
    points = START + torch.arange(F)[:, None, None] * STEP
    return points, torch.ones(F, 1, dtype=torch.bool)


def test_a_thing_moves_as_a_whole_and_its_surroundings_close_in():
    moved = move_picture(*dragged(), picture())
    for k in range(F):
        expected = picture(9 + 8 * k, 8 + 4 * k)
        assert (moved[k] - expected).abs().amax(dim=0).flatten().quantile(0.97) < 0.05
        torch.testing.assert_close(moved[k][:, 11 + 4 * k, 12 + 8 * k], BLUE, atol=0.02, rtol=0)
    torch.testing.assert_close(moved[2][:, 11, 12], SAND, atol=0.1, rtol=0)


def test_the_way_is_the_points_own_at_it_and_nothing_far_off():
    way = guess_way_back(*dragged(), picture())
    torch.testing.assert_close(way[2, :, 19, 28], -2 * STEP, atol=0.05, rtol=0)
    assert way[2, :, :, 44:].abs().max() < 0.05
    assert not way[0].any()


def test_a_matte_holds_what_looks_like_its_point_nearby_however_it_is_lit():
    image = picture()
    image[:, 8:15, 13:16] = (image[:, 8:15, 13:16] + 1) * 0.7 - 1  # in the shade
    own = mattes(START[None], image)[0]
    assert own[8:15, 9:16].min() > 0.4
    assert own[:4].max() < 0.05 and own[:, 24:].max() < 0.05


def test_a_point_that_stays_changes_nothing():
    points = START.expand(F, 1, 2)
    image = torch.rand(3, H, W, generator=torch.Generator().manual_seed(0)) * 2 - 1
    moved = move_picture(points, torch.ones(F, 1, dtype=torch.bool), image)
    torch.testing.assert_close(moved, image.expand(F, -1, -1, -1), atol=1e-5, rtol=0)


def test_points_that_are_not_shown_at_first_say_nothing_and_hidden_ones_leave_their_place():
    points, shown = dragged()
    assert not guess_way_back(points, ~shown, picture()).any()
    assert guess_way_back(points[:, :0], shown[:, :0], picture()).shape == (F, 2, H, W)
    shown[2] = False
    hidden = move_picture(points, shown, picture())[2]
    torch.testing.assert_close(hidden[:, 11, 12], SAND, atol=0.1, rtol=0)
    torch.testing.assert_close(hidden[:, 19, 28], SAND, atol=0.1, rtol=0)


def test_two_things_move_apart():
    image = picture()
    image[:, 20:27, 30:37] = torch.tensor([0.8, -0.6, -0.6])[:, None, None]
    points = torch.cat([dragged()[0], torch.tensor([33.0, 23.0]) - torch.arange(F)[:, None, None] * STEP], dim=1)
    way = guess_way_back(points, torch.ones(F, 2, dtype=torch.bool), image)
    torch.testing.assert_close(way[1, :, 15, 20], -STEP, atol=0.1, rtol=0)
    torch.testing.assert_close(way[1, :, 19, 25], STEP, atol=0.1, rtol=0)


@pytest.mark.parametrize("color", [(0.9, 0.9, 0.9), (-0.9, -0.9, -0.9)])
def test_a_picture_of_one_color_stays_as_it_is(color):
    image = torch.tensor(color)[:, None, None].expand(3, H, W)
    torch.testing.assert_close(move_picture(*dragged(), image), image.expand(F, -1, -1, -1))
