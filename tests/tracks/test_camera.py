"""Camera moves as flow of the whole image."""

import pytest
import torch

from utils.metrics.trajectory import follow_flow
from utils.tracks.camera import camera_flow

W, H, F = 32, 24, 5


def follow(preset, speed, point):
    return follow_flow(torch.tensor([point]), camera_flow(preset, speed, F, W, H))[:, 0]


@pytest.mark.parametrize(
    ("preset", "step"), [("pan_left", (2, 0)), ("pan_right", (-2, 0)), ("tilt_up", (0, 2)), ("tilt_down", (0, -2))]
)
def test_a_pan_shifts_every_pixel_against_the_camera_by_its_speed(preset, step):
    flow = camera_flow(preset, 2, F, W, H)
    assert flow.shape == (F - 1, 2, H, W)
    assert torch.equal(flow, torch.tensor(step, dtype=torch.float32).view(1, 2, 1, 1).expand_as(flow))


def test_a_zoom_leaves_the_middle_and_grows_by_its_factor_in_each_frame():
    middle = [(W - 1) / 2, (H - 1) / 2]
    assert torch.allclose(follow("zoom_in", 1.1, middle), torch.tensor(middle).expand(F, 2), atol=1e-5)
    points = follow("zoom_in", 1.1, [middle[0] + 2, middle[1] - 1])
    grown = torch.tensor(middle) + torch.tensor([2.0, -1.0]) * 1.1 ** torch.arange(F)[:, None]
    assert torch.allclose(points, grown, atol=1e-4)


def test_zooming_out_undoes_zooming_in():
    point = [20.0, 9.0]
    there = follow("zoom_in", 1.05, point)[-1]
    assert torch.allclose(follow("zoom_out", 1.05, there.tolist())[-1], torch.tensor(point), atol=1e-4)


def test_a_camera_rolled_to_the_left_turns_the_image_with_the_clock():
    points = follow("roll_left", 10, [(W - 1) / 2 + 5, (H - 1) / 2])
    angle = torch.deg2rad(10.0 * torch.arange(F))
    expected = torch.stack([(W - 1) / 2 + 5 * angle.cos(), (H - 1) / 2 + 5 * angle.sin()], dim=1)  # y points down
    assert torch.allclose(points, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("preset", "speed"), [("pan", 1), ("pan_left", 0), ("zoom_in", 0.9), ("pan_left", float("nan"))]
)
def test_a_camera_that_cannot_be_is_refused(preset, speed):
    with pytest.raises(ValueError, match="camera|zoom"):
        camera_flow(preset, speed, F, W, H)
