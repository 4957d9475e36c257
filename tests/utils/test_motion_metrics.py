"""Metrics of flow and trajectories on cases whose value is known."""

import numpy as np
import pytest
import torch

from utils.metrics.flow import edge_distance, end_point_error, outliers, warping_error
from utils.metrics.trajectory import follow_flow, share_within, trajectory_error


def test_end_point_error_is_the_mean_length_over_known_and_masked_pixels():
    truth = torch.zeros(2, 2, 2)
    estimate = torch.tensor([3.0, 4.0]).view(2, 1, 1).expand(2, 2, 2).clone()
    estimate[:, 0, 0] = 0
    assert end_point_error(estimate, truth) == pytest.approx(3.75)
    truth[:, 0, 0] = float("nan")
    assert end_point_error(estimate, truth) == pytest.approx(5)
    mask = torch.tensor([[True, False], [False, True]])
    estimate[:, 1, 1] = torch.tensor([0.0, 1.0])
    assert end_point_error(estimate, truth, mask) == pytest.approx(1)
    with pytest.raises(ValueError, match="No pixel is left"):
        end_point_error(estimate, truth, torch.zeros(2, 2, dtype=torch.bool))


def test_outliers_need_three_pixels_and_five_percent():
    truth = torch.zeros(2, 1, 4)
    truth[0] = torch.tensor([[0.0, 0.0, 100.0, 50.0]])
    estimate = truth + torch.tensor([2.9, 3.1, 4.0, 4.0]).view(1, 1, 4) * torch.tensor([1.0, 0.0]).view(2, 1, 1)
    assert outliers(estimate, truth) == pytest.approx(0.5)
    estimate[0, 0, 0] = float("nan")
    assert outliers(estimate, truth) == pytest.approx(0.75), "an estimate that is no number is none that is right"


def test_warping_error_is_zero_for_the_true_flow_and_counts_what_is_seen():
    video = torch.rand(2, 3, 8, 8)
    video[1, :, :, 2:] = video[0, :, :, :-2]
    flow = torch.zeros(1, 2, 8, 8)
    flow[:, 0] = 2
    assert warping_error(video, flow) == pytest.approx(0, abs=1e-10)
    step = torch.stack([torch.zeros(3, 4, 4), torch.full((3, 4, 4), 0.5)])
    assert warping_error(step, torch.zeros(1, 2, 4, 4)) == pytest.approx(0.25)
    with pytest.raises(ValueError, match="2 frames have 1 flows"):
        warping_error(video, torch.zeros(2, 2, 8, 8))


def test_edges_of_flow_are_as_far_from_an_outline_as_the_flow_is_from_whole_things():
    labels = np.full((16, 16), -1)
    labels[4:8, 4:8] = 2
    labels[12:] = -2  # the floor is no object
    whole = torch.zeros(2, 16, 16)
    whole[0, 4:8, 4:8] = 3
    moment, weight = edge_distance(whole, labels)
    assert weight > 0 and moment == 0
    beside = whole.roll(5, dims=-1)
    moment, weight = edge_distance(beside, labels)
    assert 1 < moment / weight < 5
    assert edge_distance(beside * 2, labels) == pytest.approx((2 * moment, 2 * weight))
    assert edge_distance(whole, np.full((16, 16), -1)) == (0, 0)
    assert edge_distance(torch.ones(2, 16, 16), labels) == (0, 0)


def test_trajectory_error_leaves_out_the_first_frame_and_hidden_points():
    target = torch.zeros(3, 2, 2)
    tracks = target.clone()
    tracks[1, 0] = torch.tensor([3.0, 4.0])
    tracks[0, 0] = 1000
    assert trajectory_error(tracks, target, width=256) == pytest.approx(5 / 4)
    assert trajectory_error(tracks, target, width=128) == pytest.approx(10 / 4)
    visible = torch.tensor([[True, True], [True, False], [False, False]])
    assert trajectory_error(tracks, target, 256, visible) == pytest.approx(5)
    with pytest.raises(ValueError, match=r"\(3, 2\), not \(3, 5\)"):
        trajectory_error(tracks, target, 256, torch.ones(3, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match="No point is visible"):
        trajectory_error(tracks, target, 256, torch.zeros(3, 2, dtype=torch.bool))


def test_share_within_averages_five_thresholds():
    target = torch.zeros(2, 1, 2)
    tracks = target.clone()
    tracks[1, 0, 0] = 3.0
    assert share_within(tracks, target, 256) == pytest.approx(3 / 5)


def test_points_are_carried_by_flow():
    flow = torch.zeros(2, 2, 8, 8)
    flow[0, 0], flow[1, 1] = 1.5, -2
    tracks = follow_flow(torch.tensor([[2.0, 5.0], [4.0, 4.0]]), flow)
    torch.testing.assert_close(tracks[-1], torch.tensor([[3.5, 3.0], [5.5, 2.0]]))
