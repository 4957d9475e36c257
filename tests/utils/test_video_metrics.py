"""Metrics of pictures, videos and sets of them, on cases whose value is known."""

import numpy as np
import pytest
import torch

from utils.metrics.frechet import distance_of_features, frechet_distance
from utils.metrics.images import psnr, ssim
from utils.metrics.video import frame_consistency


def test_psnr_of_a_constant_error_is_that_of_its_square():
    truth = torch.zeros(2, 3, 8, 8)
    assert psnr(truth + 0.2, truth) == pytest.approx(20, abs=1e-4)  # 2 / 0.2 = 10 times: 20 dB
    both = torch.stack([truth[0] + 0.2, truth[0] + 0.02])
    assert psnr(both, truth) == pytest.approx(30, abs=1e-4), "the mean of 20 and 40 dB"
    assert psnr(truth, truth) == float("inf")


def test_ssim_of_constant_pictures_is_the_ratio_of_their_brightness():
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


def test_pictures_of_other_shapes_are_refused():
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
