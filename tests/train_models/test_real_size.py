"""docs/real_models.md as a whole on a Stable Diffusion of the released size with random weights, at 128x128.

`pytest -m slow -s` prints what it took. Nothing is said of images: the weights know nothing.
"""

import json
import resource
import time

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel

import patch
import run_models.run_depth_image as run_script
import train_models.train_depth_image as train_script
from models.onnx_networks import RANDOM_SIZES
from tests.flags import flags
from tests.tiny_pipeline import tokenizer
from utils.scenes.write_dataset import write_dataset

SIDE = 128
TEXT = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}


def random_network(make):
    """Small random weights in float16, without the time that an initialisation takes."""
    with torch.device("meta"):
        network = make()
    network = network.to(torch.float16).to_empty(device="cpu").eval()
    for name, parameter in network.named_parameters():
        parameter.data.fill_(1) if "norm" in name and name.endswith("weight") else parameter.data.uniform_(-0.02, 0.02)
    return network


def write_base(folder):
    """A Stable Diffusion 1.5 of the released size; its text encoder knows letters alone."""
    words = tokenizer(folder / "words")
    ends = {"bos_token_id": 56, "eos_token_id": 57, "pad_token_id": 57}
    text = CLIPTextConfig(vocab_size=len(words), max_position_embeddings=16, **ends, **TEXT)
    parts = {
        "unet": random_network(lambda: UNet2DConditionModel(sample_size=64, **RANDOM_SIZES["sd15"]["unet"][1])),
        "vae": random_network(lambda: AutoencoderKL(latent_channels=4, **RANDOM_SIZES["sd15"]["vae"][1])),
        "text_encoder": CLIPTextModel(text).to(torch.float16),
        "tokenizer": words,
        "scheduler": DDIMScheduler(clip_sample=False, steps_offset=1),
        "safety_checker": None,
        "feature_extractor": None,
    }
    StableDiffusionPipeline(**parts, requires_safety_checker=False).save_pretrained(folder / "base")
    return folder / "base"


@pytest.mark.slow
def test_from_pairs_of_files_to_images_at_the_size_of_stable_diffusion(tmp_path):
    begin = time.perf_counter()
    base = write_base(tmp_path)
    write_dataset(tmp_path / "data", range(2), SIDE)
    common = {"pretrained_model_name_or_path": base}
    sizes = {"resolution": SIDE, "train_batch_size": 1, "max_train_steps": 2, "rank": 64}
    paths = {"train_data_dir": tmp_path / "data", "output_dir": tmp_path / "depth", "cache_dir": tmp_path / "cache"}
    train_script.main(flags("--cache_latents", "--gradient_checkpointing", **common, **sizes, **paths))
    trained = time.perf_counter()
    adapter = tmp_path / "depth/depth.safetensors"
    assert patch.read_config(adapter)["rank"] == 64
    assert len((tmp_path / "depth/log.jsonl").read_text().splitlines()) >= 1
    sampling = {"mode": "joint", "prompt": "a cube", "num_images_per_prompt": 1, "num_inference_steps": 2}
    sampling |= {"adapter": adapter, "height": SIDE, "width": SIDE, "output_dir": tmp_path / "pair"}
    run_script.main(flags(**common, **sampling))
    assert Image.open(tmp_path / "pair/00_side_by_side.png").size == (2 * SIDE, SIDE)
    assert json.loads((tmp_path / "pair/run.json").read_text())["weights"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    seconds = time.perf_counter() - trained
    print(f"\nbase and training {trained - begin:.0f} s, sampling {seconds:.0f} s, peak {peak:.1f} GiB")
