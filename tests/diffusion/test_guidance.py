"""Guidance in an interval of noise levels and in directions, on predictions of known value."""

import torch

from utils.diffusion.edm import EDM
from utils.diffusion.guidance import CONDITIONAL, SEPARATE, UNCONDITIONAL, Guidance, guidance_over_frames, project
from utils.diffusion.sampling import VideoSampling

SHAPE = (2, 4, 3, 2, 2)
LEVEL = torch.tensor(1.0)


def sample(count):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(SHAPE, generator=generator) for _ in range(count)]


def combine(guidance, unconditional, conditional, x_0, level=LEVEL):
    return guidance.combine({UNCONDITIONAL: unconditional, CONDITIONAL: conditional}, level, lambda v: x_0)


def test_it_asks_for_the_predictions_that_it_combines():
    assert Guidance().terms == (CONDITIONAL,)
    assert Guidance(2.0).terms == (UNCONDITIONAL, CONDITIONAL)
    assert Guidance(None, 1.0).terms == (CONDITIONAL, SEPARATE)


def test_joint_guidance_leads_away_from_the_separate_model_and_adds_to_the_other():
    unconditional, conditional, separate = sample(3)
    predictions = {UNCONDITIONAL: unconditional, CONDITIONAL: conditional, SEPARATE: separate}
    guided = Guidance(3.0, 2.0).combine(predictions, LEVEL, None)
    expected = unconditional + 3 * (conditional - unconditional) + 2 * (conditional - separate)
    torch.testing.assert_close(guided, expected)


def test_guidance_grows_from_the_first_frame_to_the_last():
    assert guidance_over_frames(5, 1.0, 3.0).flatten().tolist() == [1.0, 1.5, 2.0, 2.5, 3.0]


def test_plain_guidance_leads_away_from_the_prediction_without_the_image():
    unconditional, conditional, x_0 = sample(3)
    guided = combine(VideoSampling().guidance(4), unconditional, conditional, x_0)
    torch.testing.assert_close(guided[:, 0], conditional[:, 0])
    torch.testing.assert_close(guided[:, 3], conditional[:, 3] + 2 * (conditional[:, 3] - unconditional[:, 3]))
    assert VideoSampling(max_guidance_scale=1).guidance(4).terms == (CONDITIONAL,)


def test_outside_of_its_interval_the_prediction_stays_as_it_is():
    unconditional, conditional, x_0 = sample(3)
    guidance = VideoSampling(guidance_min_sigma=0.3, guidance_max_sigma=10).guidance(4)
    for level, acts in ((0.2, False), (0.31, True), (1.0, True), (10.0, True), (11.0, False)):
        assert (
            torch.equal(combine(guidance, unconditional, conditional, x_0, torch.tensor([level])), conditional) != acts
        )


def test_a_projection_is_parallel_in_each_frame_and_leaves_what_is_orthogonal():
    difference, onto = sample(2)
    part = project(difference, onto)
    rest = ((difference - part) * onto).sum((-3, -2, -1))
    torch.testing.assert_close(rest, torch.zeros_like(rest), atol=1e-5, rtol=0)
    torch.testing.assert_close(project(3 * onto, onto), 3 * onto)
    assert project(difference, torch.zeros_like(onto)).abs().max() == 0


def test_without_the_parallel_part_guidance_leaves_the_estimates_length_along_itself():
    unconditional, conditional, x_t = sample(3)
    edm, sigma = EDM(), torch.tensor([2.0, 2.0])
    x_0 = edm.denoised(x_t, conditional, sigma)
    for parallel, moves in ((0.0, False), (0.5, True), (1.0, True)):
        guided = combine(
            Guidance(torch.full((1, 4, 1, 1, 1), 3.0), parallel=parallel), unconditional, conditional, x_0, sigma
        )
        change = edm.denoised(x_t, guided, sigma) - x_0
        along = (change * x_0).sum((-3, -2, -1)) / x_0.square().sum((-3, -2, -1))
        assert (along.abs().max() > 1e-3) == moves
        assert change.abs().max() > 0.1


def test_all_of_the_parallel_part_is_plain_guidance():
    unconditional, conditional, x_0 = sample(3)
    scales = guidance_over_frames(4)
    nearly = combine(Guidance(scales, parallel=1 - 1e-6), unconditional, conditional, x_0)
    torch.testing.assert_close(nearly, combine(Guidance(scales), unconditional, conditional, x_0), atol=1e-4, rtol=1e-4)
