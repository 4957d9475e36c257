"""TRIP around a text to video UNet: what it reads, its noise levels, its loss, and that it stays as it was."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from models.trip import TripFusion, frame_weights, fuse_linearly, noise_prior_ddpm
from models.trip_text import TextCondition, TextDenoiser, TripTextUNet
from tests.models.unet_spy import UNetSpy
from tests.tiny_text_video import tiny_text_unet
from utils.diffusion.edm import EDM

B, F, C, SIDE = 2, 3, 4, 8


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def text_unet():
    return tiny_text_unet(16)


@pytest.fixture
def text_inputs():
    """z_t, timesteps, ᾱ, text and the first frame."""
    timestep = torch.tensor([50, 700])
    alpha_bar = DDPMScheduler().alphas_cumprod[timestep]
    return (
        random(B, F, C, SIDE, SIDE),
        timestep,
        alpha_bar,
        random(B, 5, 16, seed=1),
        random(B, 1, C, SIDE, SIDE, seed=2),
    )


def test_noise_of_a_text_unet_on_the_first_frame_is_the_prior(text_unet, text_inputs):
    z_t, _, alpha_bar, _, first = text_inputs
    noise = TripTextUNet(text_unet, TripFusion())(*text_inputs)
    torch.testing.assert_close(noise[:, 0], noise_prior_ddpm(z_t, first, alpha_bar)[:, 0], atol=1e-4, rtol=1e-4)


def test_a_text_unet_starts_with_the_linear_form_of_noises(text_unet, text_inputs):
    z_t, timestep, alpha_bar, prompt_embeds, first = text_inputs
    model = TripTextUNet(text_unet, TripFusion())
    residual = model.predict_residual(z_t, timestep, prompt_embeds, first)
    expected = fuse_linearly(noise_prior_ddpm(z_t, first, alpha_bar), residual, frame_weights(F))
    torch.testing.assert_close(model(*text_inputs), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("part", range(5))
def test_a_text_unet_reads_all_that_it_is_given(text_unet, text_inputs, part):
    """Its text above all."""
    model, inputs = TripTextUNet(text_unet, TripFusion()), list(text_inputs)
    plain = model(*inputs)
    inputs[part] = inputs[part].flip(0)
    assert (model(*inputs) - plain)[:, 1:].abs().max() > 1e-3


def test_the_clean_first_frame_of_a_text_unet_has_a_timestep_of_its_own(text_unet, text_inputs):
    _, timestep, _, _, first = text_inputs
    spy = UNetSpy(text_unet)
    TripTextUNet(text_unet, TripFusion())(*text_inputs)
    assert torch.equal(spy.inputs.unflatten(0, (B, F + 1))[:, 0], first[:, 0])
    clean, noisy = (text_unet.time_embedding(text_unet.time_proj(t)) for t in (timestep * 0, timestep))
    for rows in spy.embeddings:
        rows = rows.unflatten(0, (B, F + 1))
        torch.testing.assert_close(rows[:, 0], clean, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(rows[:, 1:], noisy[:, None].expand(-1, F, -1), atol=1e-5, rtol=1e-4)


def test_without_the_wrapper_a_text_unet_is_the_base(text_unet, text_inputs):
    z_t, timestep, _, prompt_embeds, _ = text_inputs
    expected = text_unet(z_t.transpose(1, 2), timestep, prompt_embeds).sample
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in text_unet.modules()]
    TripTextUNet(text_unet, TripFusion())(*text_inputs)
    assert torch.equal(text_unet(z_t.transpose(1, 2), timestep, prompt_embeds).sample, expected)
    assert [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in text_unet.modules()] == hooks


@pytest.mark.parametrize("form", ["front", "fusion"])
def test_v_of_a_sampler_is_the_noise_in_other_words(text_unet, text_inputs, form):
    """At each noise level the timestep that it came from is taken."""
    z_t, timestep, alpha_bar, prompt_embeds, first = text_inputs
    model = TripTextUNet(text_unet, TripFusion(form))
    denoiser, condition = TextDenoiser(model, DDPMScheduler()), TextCondition(prompt_embeds, first)
    sigma = denoiser.sigmas(timestep)
    torch.testing.assert_close(1 / (1 + sigma.square()), alpha_bar)
    spread = alpha_bar.sqrt()[:, None, None, None, None]
    v = denoiser.predict(z_t / spread, sigma, condition)
    noise = model(*text_inputs)
    clean = (z_t - (1 - spread.square()).sqrt() * noise) / spread
    torch.testing.assert_close(EDM().denoised(z_t / spread, v, sigma), clean, atol=1e-3, rtol=1e-3)


def test_the_loss_is_that_of_the_noise_at_each_clips_own_timestep(text_unet, text_inputs):
    _, timestep, alpha_bar, prompt_embeds, first = text_inputs
    z_0 = torch.cat([first, random(B, F - 1, C, SIDE, SIDE, seed=5)], dim=1)
    noise, model = random(*z_0.shape, seed=6), TripTextUNet(text_unet, TripFusion())
    found = TextDenoiser(model, DDPMScheduler()).loss(z_0, noise, timestep, TextCondition(prompt_embeds, first))
    for b in range(B):
        z_t = alpha_bar[b].sqrt() * z_0[b] + (1 - alpha_bar[b]).sqrt() * noise[b]
        row = slice(b, b + 1)
        predicted = model(z_t[None], timestep[row], alpha_bar[row], prompt_embeds[row], first[row])
        torch.testing.assert_close(found[b], (predicted[0] - noise[b]).square().mean(), atol=1e-4, rtol=1e-3)


def test_only_noise_is_predicted_and_never_of_pure_noise(text_unet):
    model = TripTextUNet(text_unet, TripFusion())
    with pytest.raises(ValueError, match="for v_prediction: TRIP on text needs a base that predicts epsilon"):
        TextDenoiser(model, DDPMScheduler(prediction_type="v_prediction"))
    with pytest.raises(ValueError, match="ends in pure noise, of which epsilon says nothing"):
        TextDenoiser(model, DDIMScheduler(rescale_betas_zero_snr=True))
