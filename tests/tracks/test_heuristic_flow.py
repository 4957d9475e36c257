"""A guess of where pixels of later frames come from, on images of which it is known."""

import pytest
import torch

from utils.flow.warp import pixel_grid
from utils.tracks import Tracks, look_up
from utils.tracks.camera import camera_flow
from utils.tracks.guess import track_flow
from utils.tracks.heuristic_flow import camera_backward_flow, guess_backward_flow, guess_flow, mattes, move_image

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
    moved = move_image(*dragged(), picture())
    for k in range(F):
        expected = picture(9 + 8 * k, 8 + 4 * k)
        assert (moved[k] - expected).abs().amax(dim=0).flatten().quantile(0.97) < 0.05
        torch.testing.assert_close(moved[k][:, 11 + 4 * k, 12 + 8 * k], BLUE, atol=0.02, rtol=0)
    torch.testing.assert_close(moved[2][:, 11, 12], SAND, atol=0.1, rtol=0)


def test_the_way_is_the_points_own_at_it_and_nothing_far_off():
    way = guess_backward_flow(*dragged(), picture())
    torch.testing.assert_close(way[2, :, 19, 28], -2 * STEP, atol=0.05, rtol=0)
    assert way[2, :, :, 44:].abs().max() < 0.05
    assert not way[0].any()


def test_the_guessed_flow_is_the_points_own_on_the_whole_thing_and_ends_at_its_edge():
    flow = guess_flow(*dragged(), picture())
    for k in range(F - 1):
        moves = (flow[k] != 0).any(dim=0)
        thing = (picture(9 + 8 * k, 8 + 4 * k)[2] > 0.5).float()
        assert (moves.float() - thing).abs().mean() < 0.01
        assert torch.equal(flow[k][:, moves], STEP[:, None].expand(2, int(moves.sum())))


def test_the_guessed_flow_of_what_no_point_is_on_is_the_cameras():
    camera = camera_flow("pan_left", 2.0, F, W, H)
    flow = guess_flow(*dragged(), picture(), camera)
    assert torch.equal(flow[:, :, :, 44:], camera[:, :, :, 44:])
    assert torch.equal(flow[0, :, 11, 12], STEP)
    assert torch.equal(guess_flow(torch.zeros(F, 0, 2), torch.ones(F, 0, dtype=torch.bool), picture(), camera), camera)


def test_the_flow_of_a_long_thing_under_a_camera_is_its_own_to_its_ends():
    bar = SAND[:, None, None].expand(3, 64, 64).clone()
    bar[:, 28:36, 8:30] = BLUE[:, None, None]
    points = torch.tensor([11.0, 32.0]) + torch.arange(F)[:, None, None] * torch.tensor([2.0, 0.0])
    tracks = Tracks(points, 64, 64, camera=camera_flow("pan_left", 1.0, F, 64, 64))
    alone = Tracks(points, 64, 64)
    moved = track_flow(alone, bar)[0, 0] > 0
    flow = track_flow(tracks, bar)[0, 0]
    assert torch.equal(flow[moved], torch.full_like(flow[moved], 2.0))
    assert (flow[~moved] == 1).all()


def test_a_matte_holds_what_looks_like_its_point_nearby_however_it_is_lit():
    image = picture()
    image[:, 8:15, 13:16] = (image[:, 8:15, 13:16] + 1) * 0.7 - 1  # in the shade
    own = mattes(START[None], image)[0]
    assert own[8:15, 9:16].min() > 0.4
    assert own[:4].max() < 0.05 and own[:, 24:].max() < 0.05


def test_a_point_that_stays_changes_nothing():
    points = START.expand(F, 1, 2)
    image = torch.rand(3, H, W, generator=torch.Generator().manual_seed(0)) * 2 - 1
    moved = move_image(points, torch.ones(F, 1, dtype=torch.bool), image)
    torch.testing.assert_close(moved, image.expand(F, -1, -1, -1), atol=1e-5, rtol=0)


def test_points_that_are_not_shown_at_first_say_nothing_and_hidden_ones_leave_their_place():
    points, shown = dragged()
    assert not guess_backward_flow(points, ~shown, picture()).any()
    assert guess_backward_flow(points[:, :0], shown[:, :0], picture()).shape == (F, 2, H, W)
    shown[2] = False
    hidden = move_image(points, shown, picture())[2]
    torch.testing.assert_close(hidden[:, 11, 12], SAND, atol=0.1, rtol=0)
    torch.testing.assert_close(hidden[:, 19, 28], SAND, atol=0.1, rtol=0)


def test_two_things_move_apart():
    image = picture()
    image[:, 20:27, 30:37] = torch.tensor([0.8, -0.6, -0.6])[:, None, None]
    points = torch.cat([dragged()[0], torch.tensor([33.0, 23.0]) - torch.arange(F)[:, None, None] * STEP], dim=1)
    way = guess_backward_flow(points, torch.ones(F, 2, dtype=torch.bool), image)
    torch.testing.assert_close(way[1, :, 15, 20], -STEP, atol=0.1, rtol=0)
    torch.testing.assert_close(way[1, :, 19, 25], STEP, atol=0.1, rtol=0)


@pytest.mark.parametrize("color", [(0.9, 0.9, 0.9), (-0.9, -0.9, -0.9)])
def test_an_image_of_one_color_stays_as_it_is(color):
    image = torch.tensor(color)[:, None, None].expand(3, H, W)
    torch.testing.assert_close(move_image(*dragged(), image), image.expand(F, -1, -1, -1))


def blue(moved):
    return ((moved - BLUE[:, None, None]).abs().amax(dim=0) < 0.3).sum()


def test_a_thing_comes_over_ground_that_is_held_in_place():
    points, _ = dragged()
    ground = torch.tensor([[36.0, 26.0], [40.0, 8.0], [30.0, 28.0]]).expand(F, 3, 2)
    held = torch.cat([points, ground], dim=1)
    moved = move_image(held, torch.ones(F, 4, dtype=torch.bool), picture())
    assert blue(moved[2]) >= 35  # of 49: it ends up to a pixel short
    torch.testing.assert_close(moved[2][:, 19, 28], BLUE, atol=0.02, rtol=0)


def test_a_thing_whose_point_has_left_the_image_is_still_in_it_as_far_as_it_reaches():
    points = torch.tensor([[12.0, 11.0], [30.0, 11.0], [49.0, 11.0]])[:, None]
    moved = move_image(points, torch.tensor([[True], [True], [False]]), picture())
    assert blue(moved[1]) >= 45 and 7 <= blue(moved[2]) <= 21


def test_points_that_stay_but_for_noise_leave_no_hole():
    points, _ = dragged()
    still = torch.tensor([[36.0, 24.0]]) + 0.01 * torch.randn(F, 1, 2, generator=torch.Generator().manual_seed(0))
    both, seen = torch.cat([points, still], dim=1), torch.ones(F, 2, dtype=torch.bool)
    quiet = torch.cat([points, still[:1].expand(F, 1, 2)], dim=1)
    torch.testing.assert_close(
        guess_backward_flow(both, seen, picture()), guess_backward_flow(quiet, seen, picture()), atol=0.1, rtol=0
    )


def test_with_a_camera_the_ground_and_what_no_point_is_on_move_too():
    image = picture()
    image[:, 20:27, 30:37] = torch.tensor([0.8, -0.6, -0.6])[:, None, None]
    ground = camera_backward_flow(camera_flow("pan_left", 3.0, F, W, H))
    torch.testing.assert_close(ground[2], torch.tensor([-6.0, 0.0])[:, None, None].expand(2, H, W), atol=1e-4, rtol=0)
    points, shown = dragged()
    moved = move_image(points, shown, image, ground)[2]
    torch.testing.assert_close(moved[:, 23, 39], image[:, 23, 33], atol=0.05, rtol=0)
    torch.testing.assert_close(moved[:, 19, 28], BLUE, atol=0.05, rtol=0)
    torch.testing.assert_close(moved[:, 11, 18], SAND, atol=0.1, rtol=0)
    assert blue(moved) <= 55


def test_the_backward_flow_of_a_zoom_is_its_inverse():
    flow = camera_flow("zoom_in", 1.1, F, W, H)
    back = camera_backward_flow(flow)[1]
    there = pixel_grid(H, W, like=back) + back
    forth = torch.stack([look_up(flow[0], there.flatten(1).T[i : i + 1])[0] for i in (700, 760)])
    torch.testing.assert_close(forth, -back.flatten(1).T[[700, 760]], atol=0.02, rtol=0)
