"""The arithmetic of flow, on cases that can be computed by hand and on the procedural world."""

import numpy as np
import pytest
import torch

from utils.flow import (
    accumulate,
    compose,
    find_occlusion,
    flip_flow,
    leaves_image,
    resize_flow,
    spread_points,
    tracks_to_flow,
    warp,
)
from utils.metrics.flow import end_point_error
from utils.scenes import render_clip, sample_clip


def constant(x, y, H=12, W=16):
    return torch.tensor([x, y], dtype=torch.float32).view(1, 2, 1, 1).expand(1, 2, H, W).clone()


@pytest.fixture(scope="module")
def rendering():
    return render_clip(sample_clip(3, 3), 32, samples=1)


def test_warping_by_whole_pixels_shifts_the_image():
    second = torch.rand(1, 3, 12, 16)
    first = warp(second, constant(3, -2))
    torch.testing.assert_close(first[..., 2:, :-3], second[..., :-2, 3:])


def test_warping_between_pixels_is_exact_on_a_ramp():
    ramp = torch.arange(16.0).expand(1, 1, 12, 16)
    torch.testing.assert_close(warp(ramp, constant(0.25, 0.5))[..., :-1], ramp[..., :-1] + 0.25)


def test_warping_refuses_another_size():
    with pytest.raises(ValueError, match="differ in size"):
        warp(torch.zeros(1, 3, 8, 8), constant(0, 0))


def test_composition_of_shifts_adds_them():
    torch.testing.assert_close(compose(constant(2, 1), constant(-0.5, 3)), constant(1.5, 4))


def test_composition_follows_the_moved_point():
    grow = torch.stack(torch.meshgrid(torch.arange(12.0), torch.arange(16.0), indexing="ij")[::-1])[None] * 0.1
    twice = compose(grow, grow)
    torch.testing.assert_close(twice[..., :8, :8], (grow * 2.1)[..., :8, :8])


def test_accumulated_flow_of_a_clip_is_its_tracks(rendering):
    total = accumulate(torch.from_numpy(rendering.flow))
    columns, rows = rendering.tracks[0].astype(int).T
    moved = total[-1].numpy()[:, rows, columns].T + rendering.tracks[0]
    error = np.linalg.norm(moved - rendering.tracks[-1], axis=1)[rendering.visible.all(axis=0)]
    assert np.median(error) < 0.05


def test_occlusion_is_found_where_the_world_says(rendering):
    forward, backward = torch.from_numpy(rendering.flow), torch.from_numpy(rendering.backward_flow)
    found, true = find_occlusion(forward, backward), torch.from_numpy(rendering.occluded)
    assert (found == true).float().mean() > 0.93
    assert (found & true).sum() > 0.5 * true.sum()


def test_points_that_leave_the_image_are_known():
    left = leaves_image(constant(5, 0))
    assert left[..., -5:].all()
    assert not left[..., :-5].any()


def test_resizing_scales_the_vectors_by_axis():
    torch.testing.assert_close(resize_flow(constant(2, 3), (24, 64)), constant(8, 6, 24, 64))
    torch.testing.assert_close(resize_flow(constant(8, 6, 24, 64), (12, 16)), constant(2, 3))


def test_flipping_twice_gives_the_flow_back_and_once_mirrors_vectors():
    flow = torch.randn(1, 2, 12, 16)
    assert (flip_flow(flip_flow(flow)) == flow).all()
    assert (flip_flow(flow)[0, 0, :, 0] == -flow[0, 0, :, -1]).all()
    assert (flip_flow(flow, horizontal=False)[0, 1, 0] == -flow[0, 1, -1]).all()


def test_a_flipped_video_has_the_flipped_flow():
    second = torch.rand(1, 3, 12, 16)
    flow = torch.randn(1, 2, 12, 16)
    torch.testing.assert_close(warp(second.flip(-1), flip_flow(flow)), warp(second, flow).flip(-1))


def test_spread_flow_is_exact_at_lone_points_and_vanishes_far_away():
    flow = spread_points(torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0, -1.0]]), (40, 50), sigma=2.0)
    torch.testing.assert_close(flow[:, 4, 3], torch.tensor([2.0, -1.0]))
    assert flow[:, 30:, 40:].abs().max() < 1e-4
    assert flow[0, 4, 5] == pytest.approx(2 * np.exp(-0.5), rel=1e-4)


def test_spread_flow_between_equal_vectors_is_that_vector():
    points = torch.stack(torch.meshgrid(torch.arange(0, 16, 2.0), torch.arange(0, 12, 2.0), indexing="ij"), -1)
    flow = spread_points(points.reshape(-1, 2), torch.ones(48, 2), (12, 16), sigma=4.0)
    assert flow[:, :11, :15].min() > 0.9


def test_no_points_give_no_flow():
    assert (spread_points(torch.zeros(0, 2), torch.zeros(0, 2), (4, 5), 1.0) == 0).all()


def test_tracks_become_flow_and_invisible_ones_do_not_count():
    tracks = torch.tensor([[[4.0, 4.0], [10.0, 8.0]], [[6.0, 4.0], [10.0, 9.0]], [[8.0, 4.0], [10.0, 10.0]]])
    visible = torch.tensor([[True, True], [True, True], [True, False]])
    flow = tracks_to_flow(tracks, (12, 16), 1.0, visible)
    torch.testing.assert_close(flow[0, :, 8, 10], torch.tensor([0.0, 1.0]), atol=1e-3, rtol=0)
    torch.testing.assert_close(flow[1, :, 4, 6], torch.tensor([2.0, 0.0]), atol=1e-3, rtol=0)
    assert flow[1, :, 9, 10].norm() < 0.01
    torch.testing.assert_close(
        tracks_to_flow(tracks, (12, 16), 1.0, from_first=True)[1, :, 4, 4], torch.tensor([4.0, 0.0]), atol=1e-3, rtol=0
    )


def test_dense_tracks_give_the_flow_of_the_clip_back(rendering):
    clip = sample_clip(3, 3)
    dense = render_clip(clip, 32, samples=1, num_tracks=2000)
    flow = tracks_to_flow(torch.from_numpy(dense.tracks), (32, 32), 0.7, torch.from_numpy(dense.visible))
    truth = torch.from_numpy(rendering.flow)
    assert end_point_error(flow[0], truth[0]) < 0.35 * truth[0].norm(dim=0).mean()
