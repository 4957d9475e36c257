"""Frames between two images by flow: the ends are kept, what moves steadily is found again, what is hidden as well."""

import pytest
import torch

from utils.flow import flow_estimator
from utils.flow.far import far_flows
from utils.flow.interpolate import cross_fade, interpolate
from utils.metrics.images import psnr

SIDE = 64


def shown(shift: int) -> torch.Tensor:
    """A textured square (3, H, W) on a textured ground, shifted to the right."""
    generator = torch.Generator().manual_seed(0)
    ground, square = (
        torch.nn.functional.interpolate(
            torch.rand(1, 3, n, n, generator=generator), (m, m), mode="bicubic", align_corners=False
        )[0].clamp(0, 1)
        for n, m in ((9, SIDE), (4, 24))
    )
    image = ground * 0.5 - 0.9
    image[:, 20:44, 8 + shift : 32 + shift] = square * 0.8 + 0.1
    return image


def exact(shift: int):
    """An estimator of the flow between images of `shown`."""

    def estimate(video):
        way = torch.zeros(1, 2, SIDE, SIDE)
        forwards = torch.equal(video[0], shown(0))
        left = 8 if forwards else 8 + shift
        way[:, 0, 20:44, left : left + 24] = shift if forwards else -shift
        return way

    return estimate


def test_the_ends_are_the_given_images():
    first, last = shown(0), shown(8)
    for frames in (interpolate(first, last, 5, flow_estimator("dis")), cross_fade(first, last, 5)):
        assert frames.shape == (5, 3, SIDE, SIDE)
        assert torch.equal(frames[0], first) and torch.equal(frames[-1], last)


def test_a_thing_that_moves_steadily_is_where_it_should_be_and_what_it_hides_comes_from_the_other_image():
    frames = interpolate(shown(0), shown(16), 5, exact(16), far=False)
    for number, frame in enumerate(frames):
        # Uncovered ground is shown by one of the images alone.
        assert psnr(frame, shown(4 * number)) > 30


def test_it_is_nearer_than_a_cross_fade_with_estimated_flow():
    first, last, middle = shown(0), shown(8), shown(4)
    by_flow = interpolate(first, last, 3, flow_estimator("dis", inference_size=(128, 128)))[1]
    assert psnr(by_flow, middle) > psnr(cross_fade(first, last, 3)[1], middle) + 3


@pytest.mark.parametrize("num_frames", [3, 8])
def test_equal_images_stay(num_frames):
    image = shown(0)
    frames = interpolate(image, image, num_frames, flow_estimator("dis"))
    assert torch.allclose(frames, image.expand_as(frames), atol=1e-5)


def test_single_pixels_of_wrong_flow_leave_no_specks():
    image = shown(0)

    def estimate(video):
        flow = torch.zeros(1, 2, SIDE, SIDE)
        flow[:, 0, 10, ::9] = 30.0
        return flow

    assert torch.allclose(interpolate(image, image, 3, estimate, far=False)[1], image, atol=1e-5)


def test_what_moves_farther_than_dis_finds_is_matched():
    first, last, middle = shown(0), shown(20), shown(10)
    near, far = (interpolate(first, last, 3, far=wanted)[1] for wanted in (False, True))
    assert psnr(far, middle) > psnr(near, middle) + 3


def test_flow_that_dis_finds_is_kept():
    first, last = shown(0), shown(3)
    estimate = flow_estimator("dis", inference_size=(128, 128))
    plain = estimate(torch.stack([first, last]))
    there, _ = far_flows(first, last, estimate)
    assert ((there - plain).abs().amax(1) > 0.1).float().mean() < 0.02
