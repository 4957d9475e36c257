"""Metrics of images, videos and sets of them, on cases whose value is known."""

import numpy as np
import pytest
import torch

from utils.metrics.frechet import bootstrap_distance, distance_of_features, frechet_distance
from utils.metrics.images import psnr, ssim
from utils.metrics.object_motion import object_motion
from utils.metrics.statistics import rank_correlation
from utils.metrics.video import frame_consistency


def test_psnr_of_a_constant_error_is_that_of_its_square():
    truth = torch.zeros(2, 3, 8, 8)
    assert psnr(truth + 0.2, truth) == pytest.approx(20, abs=1e-4)  # 2 / 0.2 = 10 times: 20 dB
    both = torch.stack([truth[0] + 0.2, truth[0] + 0.02])
    assert psnr(both, truth) == pytest.approx(30, abs=1e-4), "the mean of 20 and 40 dB"
    assert psnr(truth, truth) == float("inf")


def test_ssim_of_constant_images_is_the_ratio_of_their_brightness():
    """Without variance SSIM is (2ab + c) / (a² + b² + c) with brightness a and b from 0, black, to 1 and c = 0.01²."""
    a, b, c = 0.5, 0.75, 0.01**2
    expected = (2 * a * b + c) / (a * a + b * b + c)
    first, second = (torch.full((1, 3, 16, 16), 2 * brightness - 1) for brightness in (a, b))
    assert ssim(first, second) == pytest.approx(expected, abs=1e-5)
    picture = torch.rand(3, 16, 16) * 2 - 1
    assert ssim(picture, picture) == pytest.approx(1)
    assert ssim(picture, picture.flip(-1)) < 0.5
    with pytest.raises(ValueError, match="at least 11 pixels"):
        ssim(picture[..., :8], picture[..., :8])


def test_images_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(3, 8, 8\) and \(3, 8, 9\)"):
        psnr(torch.zeros(3, 8, 8), torch.zeros(3, 8, 9))


def test_frame_consistency_is_the_cosine_of_neighbours():
    angles = torch.tensor([0.0, 0.0, np.pi / 3, np.pi / 2])
    video = angles.view(4, 1, 1, 1).expand(4, 3, 8, 8)

    def encoder(frames):
        angle = frames[:, 0, 0, 0]
        return 7 * torch.stack([angle.cos(), angle.sin()], dim=1)

    assert frame_consistency(video, encoder) == pytest.approx((1 + 0.5 + np.cos(np.pi / 6)) / 3, abs=1e-6)
    assert frame_consistency(video, encoder, num_frames=3) == pytest.approx(0.75, abs=1e-6)
    with pytest.raises(ValueError, match="at least 2 frames, not 1"):
        frame_consistency(video[:1], encoder)
    with pytest.raises(ValueError, match=r"\(4, 3, 8, 8\) for 4 frames"):
        frame_consistency(video, lambda frames: frames)


def crossed(means, deviations):
    """Points whose mean and (n - 1) covariance are exactly `means` and diagonal `deviations`²."""
    D = len(means)
    steps = torch.tensor(deviations, dtype=torch.float64).diag() * ((2 * D - 1) / 2) ** 0.5
    return torch.tensor(means, dtype=torch.float64) + torch.cat([steps, -steps])


def test_frechet_distance_of_known_gaussians_is_the_closed_form():
    real, generated = crossed([0.0, 0.0, 1.0], [1.0, 2.0, 0.5]), crossed([3.0, 0.0, -3.0], [2.0, 2.0, 2.0])
    assert distance_of_features(real, generated) == pytest.approx(9 + 16 + 1 + 0 + 1.5**2, rel=1e-5)
    assert distance_of_features(real, real) == pytest.approx(0, abs=1e-6)


def test_frechet_distance_takes_videos_in_batches_and_a_network_of_features():
    real, generated = torch.rand(2, 12, 5, 3, 8, 8) * 2 - 1

    def features(videos):
        return torch.stack([videos.mean((1, 2, 3, 4)), videos.std((1, 2, 3, 4))], dim=1)

    found = frechet_distance(real.split(5), (generated + 0.5).split(4), features)
    assert found == pytest.approx(distance_of_features(features(real), features(generated + 0.5)), rel=1e-6)
    assert found > frechet_distance(real.split(5), generated.split(5), features)
    with pytest.raises(ValueError, match="at least 2 samples"):
        frechet_distance(real[:1].split(1), generated.split(4), features)
    with pytest.raises(ValueError, match="no sample"):
        frechet_distance([], generated.split(4), features)


def test_the_interval_of_a_frechet_distance_holds_it_and_narrows_with_more_samples():
    rng = np.random.default_rng(0)

    def estimate(count, **options):
        real, generated = (torch.from_numpy(rng.normal(size=(count, 2))) for _ in range(2))
        return bootstrap_distance(real, generated + 1, resamples=100, **options)

    few, many = estimate(50), estimate(800)
    assert few.low <= few.mean <= few.high
    assert many.high - many.low < 0.5 * (few.high - few.low)
    assert many.low < 2 < many.high  # |(1, 1)|²


def test_pairs_that_differ_by_a_constant_have_no_width():
    real = torch.from_numpy(np.random.default_rng(0).normal(size=(60, 3)))
    found = bootstrap_distance(real, real + 1, paired=True, resamples=50)
    assert found.mean == pytest.approx(3, rel=1e-5)
    assert found.high - found.low < 1e-4
    with pytest.raises(ValueError, match="as many samples"):
        bootstrap_distance(real, real[:50], paired=True)


def moving_square(shift, camera, frames=5):
    """Flow (F - 1, 2, 32, 32) of a square that moves by `shift`, of a background by `camera`, and the square."""
    flow = torch.tensor(camera, dtype=torch.float32)[None, :, None, None].repeat(frames - 1, 1, 32, 32)
    for t in range(frames - 1):
        x, y = (8 + t * (c + s) for c, s in zip(camera, shift, strict=True))
        flow[t, :, y - 1 : y + 7, x - 1 : x + 7] += torch.tensor(shift, dtype=torch.float32)[:, None, None]
    square = torch.zeros(32, 32, dtype=torch.bool)
    square[8:14, 8:14] = True
    return flow, square


@pytest.mark.parametrize("camera", [(0, 0), (1, 0), (-1, 1)])
def test_object_motion_follows_the_object_and_leaves_out_the_camera(camera):
    assert object_motion(*moving_square((3, 0), camera)) == pytest.approx(3, abs=1e-4)
    assert object_motion(*moving_square((0, 0), camera)) == pytest.approx(0, abs=1e-4)


def test_object_motion_needs_objects_and_a_background():
    flow, square = moving_square((1, 0), (0, 0))
    for mask in (torch.zeros_like(square), torch.ones_like(square)):
        with pytest.raises(ValueError, match="need 8"):
            object_motion(flow, mask)
    with pytest.raises(ValueError, match="have one size"):
        object_motion(flow, square[:16])


def test_rank_correlation_depends_on_order_alone_and_shares_ties():
    assert rank_correlation([1, 2, 3, 4], [10, 100, 1000, 1001]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)
    assert rank_correlation([1, 2, 3], [5, 5, 5]) == 0
    assert rank_correlation([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(0.8)
    assert rank_correlation([1, 2, 3, 4], [1, 1, 2, 2]) == pytest.approx(2 / 5**0.5)
    with pytest.raises(ValueError, match="one length"):
        rank_correlation([1, 2], [1, 2, 3])
