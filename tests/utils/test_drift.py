"""Drift and seams of long videos, on videos where the figures are known."""

import pytest
import torch

from utils.metrics.drift import color_drift, content_drift, motion_drift, seam_change, segments_of

STARTS = (0, 4, 8)


def moving(frames=12):
    """A stripe that moves one column a frame."""
    video = -torch.ones(frames, 3, 8, 16)
    for t in range(frames):
        video[t, :, :, t] = 1
    return video


def test_segments_lie_between_the_starts():
    assert [len(segment) for segment in segments_of(moving(), STARTS)] == [4, 4, 4]
    assert [len(segment) for segment in segments_of(moving(), (0, 7))] == [7, 5]


@pytest.mark.parametrize("starts", [(), (1, 4), (0, 4, 4), (0, 12)])
def test_starts_out_of_order_are_refused(starts):
    with pytest.raises(ValueError, match="in order"):
        segments_of(moving(), starts)


def test_color_drift_is_the_shift_of_the_mean_where_nothing_else_changes():
    video = moving()
    video[8:] += 0.3
    first, second, third = color_drift(video, STARTS)
    assert first == second == 0
    assert third == pytest.approx(0.3 / 2**0.5, rel=1e-5)  # three of the six numbers are off


def test_color_drift_sees_lost_contrast():
    video = moving()
    mean = video[8:].mean()
    video[8:] = mean + 0.5 * (video[8:] - mean)
    assert color_drift(video, STARTS)[2] == pytest.approx(0.5 * moving().std().item() / 2**0.5, rel=1e-2)


def test_content_drift_is_the_cosine_to_the_first_frame():
    video = torch.zeros(12, 3, 2, 2)
    video[:8, 0] = 1
    video[8:, 1] = 1
    assert content_drift(video, STARTS, lambda frames: frames.mean(dim=(2, 3))) == [1, 1, 0]


def test_motion_drift_is_the_mean_length_of_the_flow_into_a_segment():
    flow = torch.zeros(11, 2, 8, 16)
    flow[3:, 0] = 3
    flow[3:, 1] = 4
    assert motion_drift(flow, STARTS) == [0, 5, 5]


@pytest.mark.parametrize("order", [1, 2])
def test_a_steady_motion_has_no_seam(order):
    across, elsewhere = seam_change(moving(), STARTS, order=order)
    assert across == pytest.approx(elsewhere)


def test_a_jump_at_a_seam_shows_and_one_elsewhere_counts_elsewhere():
    video = moving()
    video[4:] += 0.5
    across, elsewhere = seam_change(video, STARTS)
    assert across > 1.5 * elsewhere
    video = moving()
    video[6:] += 0.5
    across, elsewhere = seam_change(video, STARTS)
    assert across < elsewhere


def test_frames_that_fade_belong_to_their_seam():
    video = moving()
    video[2:] += 0.5  # the third frame is in the fade of two frames before the fifth
    assert seam_change(video, STARTS, window=1)[0] == pytest.approx(seam_change(moving(), STARTS)[0])
    across, elsewhere = seam_change(video, STARTS, window=2)
    assert across > 1.1 * elsewhere


def test_a_break_of_the_motion_at_a_seam_shows_in_the_second_order():
    frames = torch.cat([torch.arange(8.0), 7 - torch.arange(1, 5.0)])  # runs on, then back
    video = frames[:, None, None, None].expand(-1, 3, 2, 2) / 10
    assert seam_change(video, (0, 8), order=1) == pytest.approx((0.1, 0.1))
    across, elsewhere = seam_change(video, (0, 8), order=2)
    assert across == pytest.approx(0.1) and elsewhere == pytest.approx(0, abs=1e-6)


def test_a_video_without_seams_is_refused():
    with pytest.raises(ValueError, match="no change across seams"):
        seam_change(moving(), (0,))
