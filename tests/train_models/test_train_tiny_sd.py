"""A Stable Diffusion from scratch, in a few steps, that plain diffusers loads."""

from types import SimpleNamespace

import pytest
import torch
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline
from PIL import Image
from torch import nn

from train_models.train_tiny_sd import main, unet_loss


@pytest.fixture(scope="module")
def vae(scenes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("vae")
    main(["--stage", "vae", *common(scenes, folder)])
    return folder / "vae"


def common(scenes, folder):
    options = ["--train_data_dir", scenes, "--output_dir", folder, "--max_train_steps", 2, "--train_batch_size", 4]
    return [str(option) for option in options]


def test_both_stages_give_a_pipeline_that_plain_diffusers_loads(scenes, vae, tmp_path):
    cached = ["--cache_latents", "--cache_dir", str(tmp_path / "cache"), "--use_ema"]
    main(["--stage", "unet", "--vae", str(vae), *common(scenes, tmp_path / "sd"), *cached])
    pipe = StableDiffusionPipeline.from_pretrained(tmp_path / "sd", safety_checker=None)
    image = pipe("a red cube", num_inference_steps=2, output_type="pil").images[0]
    assert image.size == (64, 64)
    assert Image.open(tmp_path / "sd/validation/000002_samples.png").size == (512, 64)


def test_the_scaling_factor_brings_image_latents_to_unit_deviation(scenes, vae):
    from utils.data.pairs import PairDataset
    from utils.data.records import read_records

    net = AutoencoderKL.from_pretrained(vae)
    images = torch.stack([sample["pixel_values"] for sample in PairDataset(read_records(scenes), 64)])
    with torch.no_grad():
        latents = net.encode(images).latent_dist.mean * net.config.scaling_factor
    assert float(latents.std()) == pytest.approx(1, abs=0.01)


def test_an_autoencoder_is_trained_further_with_fewer_channels_and_not_with_more(scenes, vae, tmp_path):
    fewer = ["--stage", "vae", "--init_from", str(vae), "--latent_channels", "3"]
    main([*fewer, *common(scenes, tmp_path / "fewer")])
    assert AutoencoderKL.from_pretrained(tmp_path / "fewer/vae").config.latent_channels == 3
    with pytest.raises(ValueError, match="lower --latent_channels 5"):
        main([*fewer[:-1], "5", *common(scenes, tmp_path / "more")])


def test_the_unet_stage_asks_for_the_autoencoder(scenes, tmp_path):
    with pytest.raises(ValueError, match="--stage unet needs --vae"):
        main(["--stage", "unet", *common(scenes, tmp_path / "sd")])


def test_a_network_that_knows_v_has_no_loss():
    class Oracle(nn.Module):
        def forward(self, x_t, t, input_ids):
            """v from x_t and the known x_0."""
            alpha = scheduler.alphas_cumprod[t].view(-1, 1, 1, 1)
            noise = (x_t - alpha.sqrt() * x_0) / (1 - alpha).sqrt()
            return alpha.sqrt() * noise - (1 - alpha).sqrt() * x_0

    class Identity(nn.Module):
        config = type("Config", (), {"scaling_factor": 1.0})
        dtype = torch.float32

    scheduler = DDPMScheduler(prediction_type="v_prediction")
    x_0, args = torch.randn(6, 4, 8, 8), SimpleNamespace(drop_prompt=0.1, snr_gamma=0)
    batch = {"latents": x_0, "input_ids": torch.ones(6, 5, dtype=torch.long)}
    loss, _ = unet_loss(Oracle(), batch, Identity(), scheduler, torch.zeros(1, 5, dtype=torch.long), args)
    assert float(loss) < 1e-6
