"""Estimation in one step: a single call of the network at the last timestep, the same whatever the random state."""

from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import torch

from pipelines.one_step import estimate_condition
from tests.pipelines.joint_images import make_image, sample
from utils.diffusion.one_step import one_step_scheduler
from utils.diffusion.prompts import TextEncoder
from utils.images import to_pixels
from utils.training.joint_one_step import estimate_clean
from utils.training.sd import SDBase


@pytest.fixture
def calls(pipe):
    """Rows and timesteps of each call of the network."""
    seen = []
    with pipe.unet.register_forward_pre_hook(lambda net, args: seen.append(args)):
        yield seen


def test_the_network_is_called_once_with_the_clean_image_and_the_mean_of_the_noise(pipe, calls):
    out = estimate_condition(pipe, [make_image(1), make_image(2)])
    [(latents, timesteps)] = calls
    assert timesteps.tolist() == [0, 0, 999, 999]
    assert latents[:2].abs().amax() > 0 and latents[2:].abs().amax() == 0
    assert out.values["depth"].shape == (2, 32, 32)
    assert np.array_equal(np.asarray(out.images[0]), np.asarray(make_image(1)))


def test_two_seeds_give_the_same_estimate_and_the_scheduler_stays(pipe):
    own, estimates = pipe.scheduler, []
    for seed in (1, 2):
        torch.manual_seed(seed)
        estimates.append(estimate_condition(pipe, make_image()).values["depth"])
    assert np.array_equal(*estimates)
    assert pipe.scheduler is own
    assert np.abs(estimates[0] - estimate_condition(pipe, make_image(3)).values["depth"]).max() > 1e-3


def test_a_training_computes_the_estimate_of_the_pipeline(pipe):
    pixels = to_pixels(make_image())[None]
    x_0 = pipe.vae.encode(pixels).latent_dist.mode() * pipe.vae.config.scaling_factor
    base = SDBase(pipe.vae, pipe.unet, pipe.scheduler, TextEncoder(pipe.tokenizer, pipe.text_encoder))
    with torch.no_grad():
        estimate = estimate_clean(pipe.unet, x_0, base, SimpleNamespace(adapter_name="depth", trigger_word="depth_map"))
    expected = estimate_condition(pipe, make_image(), output_type="latent").conditions["depth"]
    torch.testing.assert_close(pipe.adapter_pairs["depth"].latent_scale.denormalize(estimate), expected)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("scheduler", ["PNDMScheduler", "DPMSolverMultistepScheduler", "DDPMScheduler"])
def test_the_step_ends_at_clean_latents_whatever_the_scheduler_was(scheduler, kind):
    own = getattr(diffusers, scheduler)(prediction_type=kind, timestep_spacing="leading", steps_offset=1)
    single = one_step_scheduler(own)
    assert single.timesteps.tolist() == [999]
    prediction = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    alpha, sigma = own.alphas_cumprod[-1].double().sqrt(), (1 - own.alphas_cumprod[-1].double()).sqrt()
    due = -sigma * prediction if kind == "v_prediction" else -sigma / alpha * prediction
    found = single.step(prediction, single.timesteps[0], torch.zeros_like(prediction)).prev_sample
    torch.testing.assert_close(found, due, rtol=1e-5, atol=1e-5)


def test_an_adapter_of_one_step_refuses_to_sample(pipe):
    pipe.register_adapter_pair("depth", "depth_map", one_step=True)
    assert estimate_condition(pipe, make_image()).values["depth"].shape == (1, 32, 32)
    for given in ({}, {"image": make_image()}):
        with pytest.raises(ValueError, match="'depth' was trained for estimation in one step and samples nothing"):
            sample(pipe, **given)


def test_an_adapter_that_is_not_there_is_named(pipe):
    with pytest.raises(ValueError, match="no adapter 'edge': loaded are depth"):
        estimate_condition(pipe, make_image(), "edge")
