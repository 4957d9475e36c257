"""Training of estimation in one step, and trainings that go on from an adapter."""

import pytest
import torch
from diffusers import DDPMScheduler
from PIL import Image
from safetensors.torch import load_file

import patch
import train_models.train_depth_image as script
from tests.flags import flags as command_line
from tests.small_trainings import IMAGE
from tests.tiny_pipeline import tiny_models
from utils.latents import LatentScale
from utils.training.joint_one_step import one_step_loss, target_pixels
from utils.training.sd import SDBase

B, SIZE = 6, IMAGE["resolution"]


def arguments(*flags):
    return script.make_parser().parse_args(command_line(*flags, train_data_dir="d", output_dir="o"))


def test_one_step_calls_the_network_once_and_its_gradient_reaches_every_part_through_the_decoder(tmp_path):
    args = arguments("--objective", "one_step", "--y_layers", "all", "--rank", 2)
    args.adapter_name, args.trigger_word = "depth", "depth_map"
    models, calls = tiny_models(tmp_path), []
    unet = patch.add_joint(models["unet"], "depth", rank=2, y_layers="all")
    parameters = dict(unet.named_parameters())
    with torch.no_grad():
        for name in (name for name in parameters if "lora_B" in name or "joint_post" in name):
            parameters[name].normal_(std=0.1)
    unet.register_forward_pre_hook(lambda net, args: calls.append(args))
    text = torch.zeros(2 * B, 4, unet.config.cross_attention_dim)
    scheduler = DDPMScheduler(prediction_type="v_prediction")
    base = SDBase(models["vae"].requires_grad_(False), unet, scheduler, lambda texts, device: text)
    pixels = {name: torch.rand(B, 3, SIZE, SIZE) for name in ("pixel_values", "conditioning_pixel_values")}
    one_step_loss(unet, pixels | {"caption": ["a cube"] * B}, base, LatentScale(0.5, 2.0), args).backward()
    [(latents, timesteps, _)] = calls
    assert timesteps.tolist() == [0] * B + [999] * B
    assert latents[B:].abs().amax() == 0
    learned = {name for name, p in parameters.items() if p.grad is not None and p.grad.abs().max() > 0}
    for part in ("depth_yx_lora", "depth_y_lora", "joint_post", "conv_out.lora_A.depth_y_lora"):
        assert any(part in name for name in learned), part


def test_the_target_is_the_pixels_or_what_the_decoder_makes_of_cached_latents(tmp_path):
    vae = tiny_models(tmp_path)["vae"].requires_grad_(False)
    pixels = torch.rand(1, 3, SIZE, SIZE)
    latents = vae.encode(pixels).latent_dist.mode()
    assert torch.equal(target_pixels({"conditioning_pixel_values": pixels}, vae), pixels)
    torch.testing.assert_close(target_pixels({"conditioning_latents": latents}, vae), vae.decode(latents).sample)


@pytest.mark.parametrize("cached", [False, True])
def test_a_run_of_one_step_goes_on_from_an_adapter_and_says_what_it_is_for(train_images, scenes, tmp_path, cached):
    train_images(script, tmp_path / "first", "--max_train_steps", 1, "--trigger_word", "far")
    flags = ["--objective", "one_step", "--init_adapter", tmp_path / "first", "--y_layers", "all"]
    flags += ["--cache_latents", "--cache_dir", tmp_path / "cache"] if cached else []
    train_images(script, tmp_path / "run", *flags, "--validation_data_dir", scenes, "--num_validation_samples", 2)
    first, config = (patch.read_config(tmp_path / run / "depth.safetensors") for run in ("first", "run"))
    assert config["training"]["objective"] == "one_step"
    for name in ("trigger", "latent_scale"):
        assert config["training"][name] == first["training"][name]
    assert any("conv_in" in key for key in load_file(tmp_path / "run/depth.safetensors"))
    assert Image.open(tmp_path / "run/validation/000002_samples.png").size == (3 * SIZE, 2 * SIZE)


def test_an_adapter_goes_on_with_its_trigger_and_scale_for_its_own_condition_alone(train_images, tmp_path):
    train_images(script, tmp_path / "first", "--max_train_steps", 1, "--trigger_word", "far")
    given = ["--max_train_steps", 1, "--init_adapter", tmp_path / "first/depth.safetensors"]
    train_images(script, tmp_path / "edges", *given, "--condition", "edge", "--adapter_name", "depth")
    first, edges = (patch.read_config(tmp_path / run / "depth.safetensors")["training"] for run in ("first", "edges"))
    assert first["trigger"] == "far" and edges["trigger"] == "edge_map"
    assert edges["latent_scale"] != first["latent_scale"]


def test_flags_that_one_step_does_not_read_are_refused(train_images, tmp_path):
    for flag, value in (("--snr_gamma", 0), ("--one_way_share", 0.1), ("--validation_prompts", "a cube")):
        with pytest.raises(ValueError, match=f"{flag} applies to --objective denoising; remove it or change"):
            train_images(script, tmp_path / "run", "--objective", "one_step", flag, value)


def test_an_adapter_with_all_layers_goes_on_with_all_layers(train_images, tmp_path):
    train_images(script, tmp_path / "first", "--y_layers", "all", "--max_train_steps", 1)
    with pytest.raises(ValueError, match="--y_layers is attention, but .* has all: pass that"):
        train_images(script, tmp_path / "run", "--init_adapter", tmp_path / "first")
