"""TRIP's image noise prior and its fusion: exact values, and a test for each fault of code published for the paper."""

import pytest
import torch

from models.trip import (
    FORMS,
    TemporalNoiseFusion,
    TripFusion,
    frame_weights,
    fuse_linearly,
    noise_prior,
    noise_prior_ddpm,
    noise_to_v,
    v_to_noise,
)
from utils.diffusion.edm import EDM

B, F, C, SIDE = 3, 4, 4, 4
SIGMA = torch.tensor([0.05, 1.0, 20.0])
ALPHA_BAR = 1 / (1 + SIGMA.square())


@pytest.fixture
def clip():
    """Clean latents and noise."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(B, F, C, SIDE, SIDE, generator=generator) for _ in range(2)]


@pytest.fixture
def predictions():
    """A prior and a residual, as v."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(B, F, C, SIDE, SIDE, generator=generator) for _ in range(2)]


def ddpm_latents(x_0, noise):
    alpha_bar = ALPHA_BAR[:, None, None, None, None]
    return alpha_bar.sqrt() * x_0 + (1 - alpha_bar).sqrt() * noise


def stirred(**options):
    """A fusion that has learned something."""
    torch.manual_seed(2)
    fusion = TripFusion(**options)
    for parameter in fusion.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return fusion


def test_on_the_first_frame_the_prior_is_the_true_noise(clip):
    x_0, noise = clip
    first = x_0[:, :1]
    prior = noise_prior(EDM().add_noise(x_0, noise, SIGMA), first, SIGMA)
    torch.testing.assert_close(prior[:, 0], noise[:, 0], atol=1e-4, rtol=0)
    prior = noise_prior_ddpm(ddpm_latents(x_0, noise), first, ALPHA_BAR)
    torch.testing.assert_close(prior[:, 0], noise[:, 0], atol=1e-4, rtol=0)


def test_on_other_frames_it_is_off_by_their_distance_from_the_first(clip):
    x_0, noise = clip
    prior = noise_prior(EDM().add_noise(x_0, noise, SIGMA), x_0[:, :1], SIGMA)
    expected = noise + (x_0 - x_0[:, :1]) / SIGMA[:, None, None, None, None]
    torch.testing.assert_close(prior, expected, atol=1e-4, rtol=1e-5)


def test_the_forms_of_edm_and_ddpm_agree(clip):
    """Prior, v and fused prediction: z_t = √ᾱ x_t."""
    x_0, noise = clip
    first, edm = x_0[:, :1], EDM()
    x_t, z_t = edm.add_noise(x_0, noise, SIGMA), ddpm_latents(x_0, noise)
    prior, prior_ddpm = noise_prior(x_t, first, SIGMA), noise_prior_ddpm(z_t, first, ALPHA_BAR)
    torch.testing.assert_close(prior, prior_ddpm, atol=1e-4, rtol=1e-4)
    v, v_ddpm = edm.velocity(first, prior, SIGMA), noise_to_v(prior_ddpm, z_t, ALPHA_BAR)
    torch.testing.assert_close(v, v_ddpm, atol=1e-4, rtol=1e-4)
    fusion = stirred()
    residual = noise.flip(0)
    fused = fusion(v, edm.velocity((x_t - SIGMA[:, None, None, None, None] * residual), residual, SIGMA), SIGMA)
    fused_ddpm = fusion(v_ddpm, noise_to_v(residual, z_t, ALPHA_BAR), ((1 - ALPHA_BAR) / ALPHA_BAR).sqrt())
    torch.testing.assert_close(fused, fused_ddpm, atol=1e-2, rtol=1e-3)


def test_the_noise_of_a_v_is_the_one_that_it_was_made_of(clip):
    x_0, noise = clip
    z_t = ddpm_latents(x_0, noise)
    torch.testing.assert_close(v_to_noise(noise_to_v(noise, z_t, ALPHA_BAR), z_t, ALPHA_BAR), noise)


def test_weights_fall_linearly_with_the_number_of_the_frame():
    torch.testing.assert_close(frame_weights(5).flatten(), torch.tensor([1, 0.75, 0.5, 0.25, 0]))
    assert frame_weights(1).tolist() == [[[[[1.0]]]]]


def test_a_weight_of_one_takes_the_prior_and_of_zero_the_residual(predictions):
    prior, residual = predictions
    assert torch.equal(fuse_linearly(prior, residual, torch.ones(1, F, 1, 1, 1)), prior)
    assert torch.equal(fuse_linearly(prior, residual, torch.zeros(1, F, 1, 1, 1)), residual)
    fused = TripFusion("linear")(prior, residual, SIGMA)
    assert torch.equal(fused[:, 0], prior[:, 0]) and torch.equal(fused[:, -1], residual[:, -1])


def test_linear_fusion_of_noise_is_that_of_clean_latents(clip):
    """λ z_0^1 + (1 - λ) D, of a network whose estimate is D."""
    x_0, noise = clip
    edm, estimate = EDM(), x_0.flip(1)
    first, x_t, weights = x_0[:, :1], EDM().add_noise(x_0, noise, SIGMA), frame_weights(F)
    as_noise = [noise_prior(x_t, clean, SIGMA) for clean in (first, estimate)]
    v = TripFusion("linear")(
        *(edm.velocity(x_t - SIGMA[:, None, None, None, None] * n, n, SIGMA) for n in as_noise), SIGMA
    )
    expected = weights * first + (1 - weights) * estimate
    torch.testing.assert_close(edm.denoised(x_t, v, SIGMA), expected, atol=1e-3, rtol=1e-3)


def test_the_fusion_starts_as_the_linear_form(predictions):
    assert torch.equal(TripFusion("fusion")(*predictions, SIGMA), TripFusion("linear")(*predictions, SIGMA))


def test_a_trained_fusion_leaves_the_first_frame_to_the_prior(predictions):
    prior, residual = predictions
    fused = stirred()(prior, residual, SIGMA)
    assert torch.equal(fused[:, 0], prior[:, 0])
    assert (fused - TripFusion("linear")(prior, residual, SIGMA))[:, 1:].abs().min(dim=1).values.max() > 1e-3


@pytest.mark.parametrize("form", ["channels", "end", "front", "residual"])
def test_forms_without_a_prior_are_the_networks_own_prediction(form, predictions):
    assert TripFusion(form)(*predictions, SIGMA) is predictions[1]
    assert not list(TripFusion(form).parameters())


def test_no_layer_is_drawn_anew_in_a_forward(predictions):
    fusion = stirred()
    before = {name: id(parameter) for name, parameter in fusion.named_parameters()}
    assert torch.equal(fusion(*predictions, SIGMA), fusion(*predictions, SIGMA))
    assert {name: id(parameter) for name, parameter in fusion.named_parameters()} == before


def test_heads_divide_the_width():
    with pytest.raises(ValueError, match="8 heads do not divide a width of 4: choose a width"):
        TripFusion(width=4, heads=8)


@pytest.mark.parametrize("frames", [B, F])
def test_levels_of_a_batch_are_one_for_each_video_and_not_for_each_frame(frames):
    """Where the batch is as large as the clip is long, too: there a wrong broadcast raises nothing."""
    generator = torch.Generator().manual_seed(3)
    z_t, first = (torch.randn(B, n, C, SIDE, SIDE, generator=generator) for n in (frames, 1))
    together = noise_prior_ddpm(z_t, first, ALPHA_BAR)
    for b in range(B):
        alone = noise_prior_ddpm(z_t[b : b + 1], first[b : b + 1], ALPHA_BAR[b : b + 1])
        assert torch.equal(together[b : b + 1], alone)
        expected = (z_t[b] - ALPHA_BAR[b].sqrt() * first[b]) / (1 - ALPHA_BAR[b]).sqrt()
        torch.testing.assert_close(together[b], expected)


def test_a_video_does_not_depend_on_the_others_of_its_batch(predictions):
    fusion = stirred()
    together = fusion(*predictions, SIGMA)
    alone = fusion(*(v[1:2] for v in predictions), SIGMA[1:2])
    torch.testing.assert_close(together[1:2], alone, atol=1e-3, rtol=1e-3)


def test_attention_over_frames_knows_their_positions(predictions):
    """Without positions, frames in another order would give the same in that order."""
    added = stirred().temporal
    order = torch.tensor([0, 2, 1, 3])
    plain, turned = added(*predictions, SIGMA), added(*(v[:, order] for v in predictions), SIGMA)
    assert (turned - plain[:, order]).abs().max() > 1e-2


def test_frames_prior_and_residual_are_all_read(predictions):
    """Frame 1 of what is added depends on frame 3 of each, and prior and residual cannot be exchanged."""
    added = stirred().temporal
    prior, residual = predictions
    plain = added(prior, residual, SIGMA)
    other = torch.randn(B, C, SIDE, SIDE, generator=torch.Generator().manual_seed(4))
    for changed in ((with_frame(prior, other), residual), (prior, with_frame(residual, other))):
        assert (added(*changed, SIGMA) - plain)[:, 1].abs().max() > 1e-3
    assert (added(residual, prior, SIGMA) - plain).abs().max() > 1e-2


def with_frame(frames, frame):
    return torch.cat([frames[:, :3], frame[:, None]], dim=1)


def test_the_noise_level_is_read(predictions):
    added = stirred().temporal
    assert (added(*predictions, SIGMA) - added(*predictions, SIGMA.flip(0))).abs().max() > 1e-3
    extremes = torch.tensor([0.0, 1.0, float("inf")])  # the last: a schedule whose last step is pure noise
    assert added(*predictions, extremes).isfinite().all()


def test_at_the_start_the_output_learns_and_then_everything_does(predictions):
    torch.manual_seed(0)
    fusion = TripFusion()
    fusion(*predictions, SIGMA).square().sum().backward()
    assert fusion.temporal.out.weight.grad.any()
    fusion = stirred()
    fusion(*predictions, SIGMA).square().sum().backward()
    unread = [name for name, parameter in fusion.named_parameters() if not parameter.grad.any()]
    assert not [name for name in unread if not name.endswith("to_k.bias")]  # which softmax does not see


def test_what_is_added_grows_with_the_prior():
    """At low noise the prior is far off, and so is what corrects it: a normalised value could not follow."""
    torch.manual_seed(5)
    added = TemporalNoiseFusion(C, 16, 2)
    for parameter in added.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    prior, residual = torch.randn(2, 1, F, C, SIDE, SIDE)
    near, far = (added(scale * prior, residual, SIGMA[:1]).abs().mean() for scale in (10, 100))
    assert far > 5 * near


@pytest.mark.parametrize("form", FORMS)
def test_it_survives_being_saved(form, predictions, tmp_path):
    fusion = stirred(form=form, width=16, heads=2)
    fusion.save_pretrained(tmp_path)
    loaded = TripFusion.from_pretrained(tmp_path)
    assert torch.equal(loaded(*predictions, SIGMA), fusion(*predictions, SIGMA))


def test_an_unknown_form_is_refused():
    with pytest.raises(ValueError, match="no form 'sideways' of TRIP: choose one of channels, end"):
        TripFusion("sideways")
