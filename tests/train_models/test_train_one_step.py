"""Training of estimation in one step, and trainings that go on from an adapter."""

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import patch
import train_models.train_depth_image as script
from tests.small_trainings import IMAGE
from tests.tiny_pipeline import tiny_models
from utils.latents import LatentScale
from utils.training.estimation import estimation_loss, target_pixels
from utils.weights.lora import LORA_FILE, add_lora
from utils.weights.model_kinds import read_estimator

B, SIZE = 6, IMAGE["resolution"]


def test_one_step_calls_the_network_once_and_its_gradient_reaches_every_layer_through_the_decoder(tmp_path):
    models, calls = tiny_models(tmp_path), []
    unet = models["unet"]
    parameters = add_lora(unet, 2, targets=".")
    with torch.no_grad():
        for parameter in parameters:
            parameter.normal_(std=0.1)
    unet.register_forward_pre_hook(lambda net, args: calls.append(args))
    text = torch.zeros(1, 4, unet.config.cross_attention_dim)
    pixels = {name: torch.rand(B, 3, SIZE, SIZE) for name in ("pixel_values", "conditioning_pixel_values")}
    batch, vae = pixels | {"caption": ["a cube"] * B}, models["vae"].requires_grad_(False)
    estimation_loss(unet, batch, vae, text, LatentScale(0.5, 2.0)).backward()
    [(latents, timestep, _)] = calls
    assert timestep == 0 and len(latents) == B
    still = [name for name, p in unet.named_parameters() if p.requires_grad and not p.grad.any()]
    assert all(".attn2." in name for name in still), still  # queries and keys of a text of zeros


def test_the_target_is_the_pixels_or_what_the_decoder_makes_of_cached_latents(tmp_path):
    vae = tiny_models(tmp_path)["vae"].requires_grad_(False)
    pixels = torch.rand(1, 3, SIZE, SIZE)
    latents = vae.encode(pixels).latent_dist.mode()
    assert torch.equal(target_pixels({"conditioning_pixel_values": pixels}, vae), pixels)
    torch.testing.assert_close(target_pixels({"conditioning_latents": latents}, vae), vae.decode(latents).sample)


@pytest.mark.parametrize("cached", [False, True])
def test_a_run_of_one_step_says_what_it_is_for_and_goes_on(train_images, scenes, tmp_path, cached, monkeypatch):
    flags = ["--objective", "one_step", "--validation_data_dir", scenes, "--num_validation_samples", 2]
    flags += ["--cache_latents", "--cache_dir", tmp_path / "cache"] if cached else []
    train_images(script, tmp_path / "first", *flags)
    monkeypatch.setattr(script, "measure_latent_scale", None)
    still = ["--init_adapter", tmp_path / "first", "--max_train_steps", 1, "--learning_rate", 0]
    train_images(script, tmp_path / "run", *flags, *still)
    first, training = (read_estimator(tmp_path / run) for run in ("first", "run"))
    assert training["condition"] == "depth" and training["latent_scale"] == first["latent_scale"]
    assert not {"post", "y_layers", "snr_gamma", "trigger_word"} & training.keys()
    weights, again = (load_file(tmp_path / run / LORA_FILE) for run in ("first", "run"))
    assert any("conv_in" in key for key in weights) and weights.keys() == again.keys()
    assert all(torch.equal(weights[key], again[key]) for key in weights)
    assert Image.open(tmp_path / "first/validation/000002_samples.png").size == (3 * SIZE, 2 * SIZE)


def test_one_step_goes_on_from_a_lora_of_the_same_condition_alone(train_images, tmp_path):
    train_images(script, tmp_path / "pair", "--max_train_steps", 1)
    train_images(script, tmp_path / "depth", "--max_train_steps", 1, "--objective", "one_step")
    begun = ["--objective", "one_step", "--init_adapter"]
    for flags, sentence in (
        ([tmp_path / "pair"], r"is a joint adapter \(depth\) for .*; a LoRA of .* --objective one_step is needed"),
        ([tmp_path / "depth", "--condition", "edge"], "--condition is edge, but .* estimates depth: pass that"),
        ([tmp_path / "depth", "--lora_alpha", 3], "--lora_alpha 3 needs a new LoRA"),
    ):
        with pytest.raises(ValueError, match=sentence):
            train_images(script, tmp_path / "run", *begun, *flags)


def test_an_adapter_goes_on_with_its_trigger_and_scale_for_its_own_condition_alone(train_images, tmp_path):
    train_images(script, tmp_path / "first", "--max_train_steps", 1, "--trigger_word", "far")
    given = ["--max_train_steps", 1, "--init_adapter", tmp_path / "first/depth.safetensors"]
    train_images(script, tmp_path / "edges", *given, "--condition", "edge", "--adapter_name", "depth")
    first, edges = (patch.read_config(tmp_path / run / "depth.safetensors")["training"] for run in ("first", "edges"))
    assert first["trigger"] == "far" and edges["trigger"] == "edge_map"
    assert edges["latent_scale"] != first["latent_scale"]


def test_a_run_of_one_step_resumes_from_its_checkpoint(train_images, tmp_path):
    flags = ["--objective", "one_step", "--checkpointing_steps", 1, "--lr_scheduler", "constant", "--use_ema"]
    train_images(script, tmp_path / "whole", *flags)
    train_images(script, tmp_path / "halves", *flags, "--max_train_steps", 1)
    train_images(script, tmp_path / "halves", *flags, "--resume_from_checkpoint", "latest")
    whole, halves = (load_file(tmp_path / run / LORA_FILE) for run in ("whole", "halves"))
    assert all(torch.equal(whole[key], halves[key]) for key in whole)


def test_flags_that_one_step_does_not_read_are_refused(train_images, tmp_path):
    for flag, value in (("--snr_gamma", 0), ("--one_way_share", 0.1), ("--y_layers", "all"), ("--trigger_word", "far")):
        with pytest.raises(ValueError, match=f"{flag} applies to --objective denoising; remove it or change"):
            train_images(script, tmp_path / "run", "--objective", "one_step", flag, value)


def test_a_joint_adapter_has_its_own_layers(train_images, tmp_path):
    with pytest.raises(ValueError, match="--lora_targets applies to --objective one_step; remove it or change"):
        train_images(script, tmp_path / "run", "--lora_targets", "conv")


def test_an_adapter_with_all_layers_goes_on_with_all_layers(train_images, tmp_path):
    train_images(script, tmp_path / "first", "--y_layers", "all", "--max_train_steps", 1)
    with pytest.raises(ValueError, match="--y_layers is attention, but .* has all: pass that"):
        train_images(script, tmp_path / "run", "--init_adapter", tmp_path / "first")
