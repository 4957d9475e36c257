"""Estimation in one step: a single call of the network, the same whatever the random state."""

import shutil

import diffusers
import numpy as np
import pytest
import torch

from pipelines.one_step import estimate_condition
from pipelines.pipeline_stable_diffusion_joint import StableDiffusionJointPipeline
from tests.pipelines.joint_images import make_image, sample
from utils.diffusion.one_step import one_step_scheduler
from utils.diffusion.prompts import TextEncoder
from utils.images import to_pixels
from utils.training.estimation import estimation_loss
from utils.weights.lora import LORA_FILE
from utils.weights.model_kinds import read_estimator


@pytest.fixture
def calls(bare):
    """Latents, timesteps and texts of each call of the network."""
    seen = []

    def keep(net, args, kwargs):
        seen.append((*args[:2], args[2] if len(args) > 2 else kwargs["encoder_hidden_states"]))

    with bare.unet.register_forward_pre_hook(keep, with_kwargs=True):
        yield seen


def test_a_joint_adapter_calls_the_network_once_with_the_clean_image_and_the_mean_of_the_noise(pipe, calls):
    out = estimate_condition(pipe, [make_image(1), make_image(2)])
    [(latents, timesteps, _)] = calls
    assert timesteps.tolist() == [0, 0, 999, 999]
    assert latents[:2].abs().amax() > 0 and latents[2:].abs().amax() == 0
    assert out.values["depth"].shape == (2, 32, 32)
    assert np.array_equal(np.asarray(out.images[0]), np.asarray(make_image(1)))


def test_a_lora_calls_the_network_once_with_the_clean_image_and_no_prompt(estimator, calls):
    images = [make_image(1), make_image(2)]
    out = estimate_condition(estimator, images)
    [(latents, timestep, text)] = calls
    pixels = torch.stack([to_pixels(image) for image in images])
    expected = estimator.vae.encode(pixels).latent_dist.mode() * estimator.vae.config.scaling_factor
    torch.testing.assert_close(latents, expected)
    assert timestep == 0
    assert torch.equal(text, estimator.encode_prompt(["", ""], "cpu", 1, False)[0])
    assert out.values["depth"].shape == (2, 32, 32)
    assert np.array_equal(np.asarray(out.images[0]), np.asarray(images[0]))


@pytest.mark.parametrize("kind", ["pipe", "estimator"])
def test_two_seeds_give_the_same_estimate_and_the_scheduler_stays(kind, request):
    pipe = request.getfixturevalue(kind)
    own, estimates = pipe.scheduler, []
    for seed in (1, 2):
        torch.manual_seed(seed)
        estimates.append(estimate_condition(pipe, make_image()).values["depth"])
    assert np.array_equal(*estimates)
    assert pipe.scheduler is own
    assert np.abs(estimates[0] - estimate_condition(pipe, make_image(3)).values["depth"]).max() > 1e-3


def test_a_training_computes_the_estimate_of_the_pipeline(estimator):
    known = torch.stack([to_pixels(make_image(seed)) for seed in range(2)])
    text = TextEncoder(estimator.tokenizer, estimator.text_encoder)([""], "cpu")
    latents = estimator.vae.encode(known).latent_dist.mode()
    batch = {"latents": latents, "conditioning_pixel_values": torch.zeros(2, 3, 32, 32)}
    with torch.no_grad():
        scale = estimator.adapter_pairs["depth"].latent_scale
        loss = estimation_loss(estimator.unet, batch, estimator.vae, text, scale)
    found = estimate_condition(estimator, known, output_type="latent").conditions["depth"]
    pixels = estimator.vae.decode(found / estimator.vae.config.scaling_factor).sample
    torch.testing.assert_close(loss, pixels.abs().mean())


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


def test_an_adapter_of_one_step_refuses_to_sample(estimator):
    for given in ({}, {"image": make_image()}):
        with pytest.raises(ValueError, match="'depth' was trained for estimation in one step and samples nothing"):
            sample(estimator, **given)


def test_a_lora_that_estimates_is_alone_in_its_pipeline(bare, folders):
    places = [folders.estimator, folders.adapters / "edge.safetensors"]
    for first, second in (places, places[::-1]):
        pipe = StableDiffusionJointPipeline.from_pretrained(folders.model)
        name = pipe.load_adapter_pair(first)
        with pytest.raises(ValueError, match=f"This pipeline has the adapter {name}: load .* into another one"):
            pipe.load_adapter_pair(second)
    with pytest.raises(ValueError, match="estimates its condition and reads no prompt: leave the trigger 'far' out"):
        bare.load_adapter_pair(folders.estimator, trigger="far")


def test_what_is_loaded_is_what_the_network_has(estimator, folders):
    estimator.unload_lora_weights()
    with pytest.raises(ValueError, match="No adapter is loaded"):
        estimate_condition(estimator, make_image())
    estimator.load_adapter_pair(folders.estimator)
    assert estimator.known_adapters() == ["depth"]


def test_a_folder_with_a_joint_adapter_is_that(bare, folders, tmp_path):
    for file in (folders.adapters / "depth.safetensors", folders.estimator / LORA_FILE):
        shutil.copy(file, tmp_path)
    assert read_estimator(tmp_path) is None and read_estimator(tmp_path / LORA_FILE)["condition"] == "depth"
    bare.load_adapter_pair(tmp_path, "depth")
    assert not bare.adapter_pairs["depth"].one_step


def test_an_adapter_that_is_not_there_is_named(pipe):
    with pytest.raises(ValueError, match="no adapter 'edge': loaded are depth"):
        estimate_condition(pipe, make_image(), "edge")
