"""Tracks as images for a ControlNet."""

import torch
from torch.nn import functional

from utils.tracks import Tracks
from utils.tracks.camera import camera_flow
from utils.tracks.control_map import CONTROL_CHANNELS, UNIT_SHARE, draw_control, track_control

F, SIDE = 4, 32
UNIT = SIDE * UNIT_SHARE


def drag(x, y, step_x, step_y):
    """(F, 1, 2) at constant speed."""
    steps = torch.arange(F)[:, None]
    return (torch.tensor([x, y]) + steps * torch.tensor([step_x, step_y]))[:, None].float()


def shown(points):
    return torch.ones(points.shape[:-1], dtype=torch.bool)


def test_a_point_says_where_it_goes_and_where_it_comes_from_at_its_place():
    points = drag(8, 20, 4, -2)
    control = draw_control(points, shown(points), (SIDE, SIDE))
    assert control.shape == (F, CONTROL_CHANNELS, SIDE, SIDE)
    for k in range(F):
        x, y = points[k, 0].long().tolist()
        step, back, ones = control[k, :2, y, x], control[k, 2:4, y, x], control[k, 4, y, x]
        torch.testing.assert_close(step, torch.tensor([(4 / UNIT) ** 0.5, -((2 / UNIT) ** 0.5)]))
        torch.testing.assert_close(back, torch.tensor([-((4 * k / UNIT) ** 0.5), (2 * k / UNIT) ** 0.5]))
        assert ones == 1 and control[k, 4].argmax() == y * SIDE + x


def test_its_first_place_says_where_it_has_gone():
    points = drag(8, 20, 4, -2)
    control = draw_control(points, shown(points), (SIDE, SIDE))
    for k in range(F):
        torch.testing.assert_close(
            control[k, 5:, 20, 8], torch.tensor([(4 * k / UNIT) ** 0.5, -((2 * k / UNIT) ** 0.5), 1.0])
        )


def test_a_point_that_stays_is_not_the_same_as_nothing():
    points = drag(8, 20, 0, 0)
    control = draw_control(points, shown(points), (SIDE, SIDE))
    assert not control[:, [0, 1, 2, 3, 5, 6]].any()
    assert (control[:, [4, 7], 20, 8] == 1).all()
    assert not draw_control(points[:, :0], shown(points[:, :0]), (SIDE, SIDE)).any()


def test_far_from_all_points_there_is_nothing_and_frames_without_a_point_are_empty():
    points = drag(4, 4, 1, 0)
    seen = shown(points)
    seen[2] = False
    control = draw_control(points, seen, (SIDE, SIDE))
    assert control[:, :, 20:, 20:].abs().max() < 1e-6
    assert not control[2].any() and control[3].any()


def test_between_two_points_values_are_their_mean_and_no_larger():
    points = torch.cat([drag(10, 10, 4, 0), drag(10, 10, 0, 4)], dim=1)
    control = draw_control(points, shown(points), (SIDE, SIDE))
    root = (4 / UNIT) ** 0.5
    torch.testing.assert_close(control[0, :2, 10, 10], torch.tensor([root / 2, root / 2]))
    assert control[:, [4, 7]].max() == 1


def test_a_batch_is_what_its_clips_give_alone():
    clips = torch.stack([drag(8, 20, 4, -2), drag(3, 3, 1, 1)])
    both = draw_control(clips, shown(clips), (SIDE, SIDE))
    alone = draw_control(clips[1], shown(clips[1]), (SIDE, SIDE))
    torch.testing.assert_close(both[1], alone)


def test_a_resized_video_has_the_same_control():
    tracks = Tracks(drag(32, 80, 16, -8), 4 * SIDE, 4 * SIDE)
    small, large = track_control(tracks), track_control(tracks.resized(8 * SIDE, 8 * SIDE))
    torch.testing.assert_close(functional.avg_pool2d(large, 2), small, atol=0.02, rtol=0)


def test_static_regions_are_points_that_stay():
    static = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    static[:16] = True
    static[30, 30] = True
    control = track_control(Tracks(drag(16, 24, 2, 0), SIDE, SIDE, static=static))
    alone = track_control(Tracks(drag(16, 24, 2, 0), SIDE, SIDE))
    added = (control - alone)[:, :, :16]
    assert not added[:, [0, 1, 2, 3, 5, 6]].abs().max() > 1e-4
    assert (added[:, 4].flatten(1).max(dim=1).values > 0.99).all()


def test_a_point_is_not_shown_in_frames_in_which_it_has_left_the_image():
    control = track_control(Tracks(drag(SIDE - 3, 20, 1, 0), SIDE, SIDE))
    assert all(control[k, 4].max() > 0.9 for k in range(3)) and not control[3].any()


def test_a_region_between_the_places_of_the_grid_is_a_point():
    static = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    static[9, 9] = True
    control = track_control(Tracks(torch.zeros(F, 0, 2), SIDE, SIDE, static=static))
    assert (control[:, 4, 9, 9] == 1).all()


def test_a_camera_moves_points_everywhere_but_near_the_dragged_ones():
    camera = camera_flow("pan_left", 2.0, F, SIDE, SIDE)
    control = track_control(Tracks(drag(4, 4, 0, 3), SIDE, SIDE, camera=camera))
    place = control[0, 4, 12:].flatten().argmax()
    x, y = place % SIDE, 12 + place // SIDE
    torch.testing.assert_close(control[0, :2, y, x], torch.tensor([(2 / UNIT) ** 0.5, 0.0]), atol=1e-3, rtol=0)
    near = control[0, :2, 4, 4]
    torch.testing.assert_close(near, torch.tensor([0.0, (3 / UNIT) ** 0.5]), atol=1e-3, rtol=0)
