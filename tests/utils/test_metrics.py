"""Metrics on cases whose value is known."""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from torch import nn

from utils.latents import reconstruct
from utils.metrics.attributes import score_objects
from utils.metrics.depth import align_disparity, autoencoder_floor, depth_errors, disparity_image
from utils.metrics.edges import edge_f1
from utils.metrics.statistics import bootstrap_mean, paired_difference

RED, BLUE = ("red", "cube"), ("blue", "cone")


@pytest.fixture
def metres():
    return np.random.default_rng(0).uniform(1, 8, (6, 5)).astype(np.float32)


def test_alignment_finds_the_affine_map(metres):
    target = 1 / metres.ravel().astype(np.float64)
    np.testing.assert_allclose(align_disparity((target - 3) / 0.2, target), target, atol=1e-9)


def test_depth_that_is_right_up_to_an_affine_map_of_disparity_is_right(metres):
    errors = depth_errors(5 / metres - 2, metres)
    assert errors.abs_rel == pytest.approx(0, abs=1e-5) and errors.delta1 == 1


def test_a_constant_has_the_error_of_the_mean_disparity():
    errors = depth_errors(np.zeros((1, 2)), np.array([[1.0, 2.0]]))  # mean disparity 3/4: depth 4/3 everywhere
    assert errors.abs_rel == pytest.approx((1 / 3 + 1 / 3) / 2)
    assert errors.delta1 == 0


def test_delta1_is_the_share_of_pixels_within_a_quarter():
    truth = np.array([[1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0]])
    wrong = 1 / truth + np.array(
        [[0.5, -0.5, 0, 0, 0, 0, 0.4, -0.4]]
    )  # balanced: the fitted map is nearly the identity
    assert depth_errors(wrong, truth).delta1 == pytest.approx(0.5)


def test_unknown_pixels_do_not_count(metres):
    disparity = 1 / metres
    metres[2:, :] = 0
    disparity[2:, :] = 77
    assert depth_errors(disparity, metres).abs_rel == pytest.approx(0, abs=1e-5)
    with pytest.raises(ValueError, match="no known pixel"):
        depth_errors(disparity, 0 * metres)
    with pytest.raises(ValueError, match="shapes"):
        depth_errors(disparity[:2], metres)


def test_disparity_below_zero_is_read_as_far_and_not_as_negative_depth():
    truth = np.array([[1.0, 1.0, 10.0, 10.0]])
    errors = depth_errors(np.array([[1.0, 0.2, 0.1, -0.9]]), truth)
    assert 0 < errors.abs_rel < 2


class Identity(nn.Module):
    """An autoencoder that loses nothing."""

    device, dtype = torch.device("cpu"), torch.float32

    def encode(self, pixels):
        self.mode = lambda: pixels
        self.latent_dist = self
        return self

    def decode(self, latents):
        self.sample = latents
        return self


def test_the_floor_of_a_perfect_autoencoder_is_zero(metres):
    errors, returned = autoencoder_floor(Identity(), np.stack([metres, 2 * metres]))
    assert [e.abs_rel for e in errors] == pytest.approx([0, 0], abs=1e-5)
    np.testing.assert_allclose(returned[0], disparity_image(metres)[0], atol=1e-6)


def test_an_untrained_autoencoder_has_a_floor():
    vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, sample_size=8)
    errors, returned = autoencoder_floor(vae, np.random.default_rng(0).uniform(1, 8, (2, 8, 8)))
    assert returned.shape == (2, 8, 8) and all(e.abs_rel > 0.05 for e in errors)
    assert reconstruct(vae, 9 * torch.ones(1, 3, 8, 8)).abs().max() <= 1


def test_the_interval_of_a_mean_is_that_of_the_normal_law():
    values = np.random.default_rng(1).normal(3, 2, 400)
    estimate = bootstrap_mean(values)
    assert estimate.mean == pytest.approx(values.mean())
    half = 1.96 * values.std() / 20
    assert estimate.low == pytest.approx(values.mean() - half, abs=0.03)
    assert estimate.high == pytest.approx(values.mean() + half, abs=0.03)


def test_a_weighted_mean_counts_objects_and_not_images():
    estimate = bootstrap_mean([1, 0], [1, 3])  # one of four objects
    assert estimate.mean == 0.25 and (estimate.low, estimate.high) == (0, 1)


def test_a_constant_has_no_width_and_the_seed_decides_the_draws():
    assert bootstrap_mean([2, 2, 2]) == bootstrap_mean([2, 2, 2], seed=9)
    values = np.arange(20)
    assert bootstrap_mean(values, seed=1) == bootstrap_mean(values, seed=1) != bootstrap_mean(values, seed=2)
    with pytest.raises(ValueError, match="at least one unit"):
        bootstrap_mean([])


def test_pairs_are_drawn_together():
    first = np.random.default_rng(2).normal(0, 5, 100)
    difference = paired_difference(first + 1, first)  # apart, the intervals would be wider than the difference
    assert difference.mean == pytest.approx(1) and difference.high - difference.low < 1e-9
    with pytest.raises(ValueError, match="both sides"):
        paired_difference([1, 2], [1])


@pytest.mark.parametrize(
    ("found", "color", "shape", "count"),
    [
        ([RED, BLUE], 2, 2, True),
        ([BLUE, RED], 0, 0, True),
        ([("red", "cone"), BLUE], 2, 1, True),
        ([RED], 1, 1, False),
        ([RED, BLUE, BLUE], 2, 2, False),
        ([BLUE, RED, BLUE], 0, 0, False),
        ([], 0, 0, False),
    ],
)
def test_objects_are_compared_from_left_to_right(found, color, shape, count):
    score = score_objects(found, [RED, BLUE])
    assert (score.objects, score.color, score.shape, score.count) == (2, color, shape, count)


def line(column):
    edges = np.zeros((8, 8), bool)
    edges[:, column] = True
    return edges


def test_edges_agree_within_the_tolerance():
    assert edge_f1(line(2), line(2), tolerance=0) == 1
    assert edge_f1(line(2), line(3), tolerance=0) == 0
    assert edge_f1(line(2), line(3), tolerance=1) == 1
    assert edge_f1(line(2), line(4), tolerance=1) == 0
    assert edge_f1(line(2) | line(6), line(2), tolerance=1) == pytest.approx(2 / 3)  # precision 1/2, recall 1
    assert edge_f1(line(2) & False, line(2)) == 0
    assert edge_f1(line(2) & False, line(2) & False) == 1
