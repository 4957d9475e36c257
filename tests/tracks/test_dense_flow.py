"""The flow that tracks mean: exact at points and static regions, and interpolated between them."""

import torch

from utils.flow.sparse import spread_points
from utils.tracks import Tracks, dense_flow, known_flow, look_up
from utils.tracks.camera import camera_flow

W, H, F = 32, 24, 5


def straight(start, step, frames=F):
    return [[start[0] + k * step[0], start[1] + k * step[1]] for k in range(frames)]


def make_tracks(*paths, **options):
    return Tracks(torch.tensor(paths, dtype=torch.float32).transpose(0, 1), W, H, **options)


def test_resizing_scales_points_vectors_and_camera_alike():
    camera = camera_flow("pan_left", 2.0, F, W, H)
    static = torch.zeros(H, W, dtype=torch.bool)
    static[7, 9] = True
    tracks = make_tracks(straight((7.5, 7.5), (2, 1)), camera=camera, static=static).resized(W // 2, 2 * H)
    assert torch.allclose(tracks.points[:, 0], torch.tensor(straight((3.5, 15.5), (1.0, 2.0))))
    assert torch.allclose(tracks.camera[:, 0], torch.ones(()))
    assert tracks.static.nonzero().tolist() == [[14, 4], [15, 4]]


def test_the_guess_is_exactly_the_vector_at_each_point_even_where_points_are_near():
    tracks = make_tracks(straight((8, 8), (2, 1)), straight((13, 8), (2, -1)), straight((25, 20), (0, 0)))
    flow = dense_flow(tracks)
    for k in range(F - 1):
        for place, vector in zip(tracks.points[k], tracks.vectors[k], strict=True):
            x, y = place.long().tolist()
            assert torch.equal(flow[k, :, y, x], vector)


def test_spread_vectors_are_those_of_their_points_even_where_others_are_within_the_reach():
    points, vectors = torch.tensor([[8.0, 8.0], [10.0, 9.0]]), torch.tensor([[3.0, 1.0], [-2.0, 0.0]])
    flow = spread_points(points, vectors, (H, W), sigma=8.0)
    assert torch.allclose(look_up(flow, points), vectors, atol=1e-4)


def test_the_guess_falls_off_to_nothing_and_in_between_it_follows_the_nearer_point():
    flow = dense_flow(make_tracks(straight((6, 6), (1, 0))), reach=2.0)
    assert flow[0, :, H - 1, W - 1].abs().max() < 1e-6
    along = flow[0, 0, 6, 6:16]
    assert (along.diff() <= 0).all() and 0 < float(along[3]) < 1


def test_the_guess_falls_off_to_the_move_of_the_camera():
    camera = camera_flow("zoom_in", 1.05, F, W, H)
    tracks = make_tracks(straight((6, 6), (1, 0)), camera=camera)
    flow = dense_flow(tracks, reach=2.0)
    assert torch.allclose(flow[:, :, 20, 28], camera[:, :, 20, 28])
    assert torch.allclose(look_up(flow[0], tracks.points[0]), tracks.vectors[0])


def test_a_camera_alone_is_the_guess_and_is_known_everywhere():
    camera = camera_flow("roll_right", 3, F, W, H)
    tracks = Tracks(torch.zeros(F, 0, 2), W, H, camera=camera)
    assert torch.equal(dense_flow(tracks), camera)
    flow, known = known_flow(tracks)
    assert torch.equal(flow, camera) and known.all()


def test_a_camera_is_not_known_near_a_dragged_point_where_the_object_ends_being_open():
    camera = camera_flow("pan_left", 2, F, W, H)
    flow, known = known_flow(make_tracks(straight((8, 12), (0, -1)), camera=camera), radius=1.0, reach=3.0)
    assert known[0, 0, 12, 8] and torch.equal(flow[0, :, 12, 8], torch.tensor([0.0, -1.0]))
    assert not known[0, 0, 12, 10:14].any()
    assert known[0, 0, 12, 15:].all() and torch.equal(flow[0, :, 12, 20], torch.tensor([2.0, 0.0]))


def test_a_point_that_stays_under_a_moving_camera_holds_its_surroundings_like_a_dragged_one():
    tracks = make_tracks(straight((16, 12), (0, 0)), camera=camera_flow("pan_left", 2, F, W, H))
    flow, known = known_flow(tracks, radius=1.0, reach=3.0)
    assert known[0, 0, 12, 16] and not flow[0, :, 12, 16].any()
    assert not known[0, 0, 12, 18:22].any() and known[0, 0, 12, 23:].all()
    guess = dense_flow(tracks, radius=1.0, reach=3.0)[0, 0, 12]
    assert (guess[16:].diff() >= 0).all() and 0 < float(guess[18]) < 1 and guess[-1] == 2


def test_a_static_region_does_not_move_in_the_guess_whatever_camera_and_neighbours_do():
    static = torch.zeros(H, W, dtype=torch.bool)
    static[10:16, 18:26] = True
    tracks = make_tracks(straight((15, 12), (0, 1)), camera=camera_flow("pan_left", 2, F, W, H), static=static)
    known, flow = known_flow(tracks, radius=1.0)[1], dense_flow(tracks, radius=1.0)
    assert known[:, 0, static].all()
    assert (flow[:, :, static] == 0).all()
    assert (flow[:, :, 0, 0] != 0).any()


def test_without_a_camera_only_discs_and_static_parts_are_known():
    flow, known = known_flow(make_tracks(straight((8, 8), (2, 1))), radius=2.0)
    rows, columns = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
    for k in range(F - 1):
        disc = (rows - 8 - k) ** 2 + (columns - 8 - 2 * k) ** 2 <= 4
        assert torch.equal(known[k, 0], disc)
        assert torch.equal(flow[k][:, disc], torch.tensor([2.0, 1.0])[:, None].expand(2, int(disc.sum())))


def test_the_smallest_disc_still_has_a_pixel():
    assert known_flow(make_tracks(straight((8.5, 8.5), (0, 0))), radius=0.1)[1].sum(dim=(1, 2, 3)).min() >= 1
