"""Folders of tiny random models and of adapters that have learnt something."""

import json
from types import SimpleNamespace

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

import patch
from utils.latents import LatentScale
from utils.weights.lora import add_lora, save_lora

SIDE = 32
SCALE = LatentScale(mean=0.1, std=1.5)


def tokenizer(folder):
    letters = "abcdefghijklmnopqrstuvwxyz_,"
    vocabulary = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer.from_pretrained(folder, model_max_length=16)


def tiny_models(folder) -> dict:
    torch.manual_seed(0)
    words = tokenizer(folder)
    text = CLIPTextConfig(
        vocab_size=len(words), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=16, bos_token_id=56, eos_token_id=57, pad_token_id=57,
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=SIDE // 4, block_out_channels=(8, 16), norm_num_groups=4, layers_per_block=1, cross_attention_dim=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=2,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8), norm_num_groups=4, latent_channels=4, sample_size=SIDE, scaling_factor=0.7,
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
    )  # fmt: skip
    scheduler = DDIMScheduler(prediction_type="v_prediction", clip_sample=False, steps_offset=1)
    return {
        "vae": vae.eval(), "text_encoder": CLIPTextModel(text).eval(), "tokenizer": words, "unet": unet.eval(),
        "scheduler": scheduler, "safety_checker": None, "feature_extractor": None,
    }  # fmt: skip


@torch.no_grad()
def teach(unet, name: str) -> None:
    generator = torch.Generator().manual_seed(len(name))
    for parameter in patch.joint_parameters(unet, name):
        parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))


def write_folders(folder) -> SimpleNamespace:
    """model: a StableDiffusionPipeline folder. adapters: a folder with depth.safetensors and edge.safetensors.

    estimator: a LoRA that estimates depth in one step.
    """
    plain = StableDiffusionPipeline(**tiny_models(folder / "words"), requires_safety_checker=False)
    plain.save_pretrained(folder / "model")
    for name in ("depth", "edge"):
        patch.add_joint(plain.unet, name, rank=2)
        teach(plain.unet, name)
        training = {
            "trigger": f"{name}_map",
            "latent_scale": {"mean": SCALE.mean, "std": SCALE.std},
            "one_way_share": 0.4,
        }
        patch.save(plain.unet, folder / "adapters", name, training=training)
    unet = tiny_models(folder / "words")["unet"]
    with torch.no_grad():
        for parameter in add_lora(unet, 2, targets="."):
            parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
    training = {"objective": "one_step", "condition": "depth", "latent_scale": vars(SCALE)}
    save_lora(unet, folder / "estimator", training=training)
    places = {name: folder / name for name in ("model", "adapters", "estimator")}
    return SimpleNamespace(**places)


def quiet(pipe):
    """A pipeline, which shows no progress bar any more."""
    pipe.set_progress_bar_config(disable=True)
    return pipe
