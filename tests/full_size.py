"""Stable Diffusion and Stable Video Diffusion of the released sizes with random weights, and what a run costs."""

import resource
import time
from contextlib import contextmanager

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLTemporalDecoder,
    PNDMScheduler,
    UNet2DConditionModel,
    UNetSpatioTemporalConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from models.tiny_svd import make_feature_extractor, make_scheduler
from tests.tiny_pipeline import tokenizer

DTYPE = torch.bfloat16
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "layers_per_block": 2,
    "sample_size": 768,
}
VISION = {  # ViT-H/14
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "projection_dim": 1024,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 14,
    "hidden_act": "gelu",
}


def build(make):
    """A frozen network with small random weights, of which no float32 copy is made."""
    with torch.device("meta"):
        network = make()
    network = network.to(DTYPE).to_empty(device="cpu").eval().requires_grad_(False)
    for values in (*network.parameters(), *network.buffers()):
        if values.is_floating_point():
            values.uniform_(-0.02, 0.02)
    for name, ids in network.named_buffers():
        if name.endswith("position_ids"):
            ids.copy_(torch.arange(ids.shape[-1]).expand_as(ids))
    return network


def full_size_pipeline(kind: type):
    """A pipeline of a class for Stable Video Diffusion."""
    pipe = kind(
        vae=build(lambda: AutoencoderKLTemporalDecoder(**VAE)),
        image_encoder=build(lambda: CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION))),
        unet=build(lambda: UNetSpatioTemporalConditionModel(sample_size=96, num_frames=25)),
        scheduler=make_scheduler(),
        feature_extractor=make_feature_extractor(),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def full_size_image_pipeline(kind: type, folder):
    """A pipeline of a class for Stable Diffusion 1.5; folder: for its tokenizer, which has letters alone."""
    text = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
    image_vae = VAE | {"sample_size": 512, "latent_channels": 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    schedule = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    pipe = kind(
        vae=build(lambda: AutoencoderKL(**image_vae)),
        text_encoder=build(lambda: CLIPTextModel(text)),
        tokenizer=tokenizer(folder),
        unet=build(lambda: UNet2DConditionModel(sample_size=64, cross_attention_dim=768)),
        scheduler=PNDMScheduler(**schedule, skip_prk_steps=True, steps_offset=1),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def save_layout(pipe, folder):
    """Writes the index and the configurations of a pipeline, no weights, and returns the folder."""
    pipe.save_config(folder)
    for name in ("unet", "vae"):
        getattr(pipe, name).save_config(folder / name)
    return folder


@contextmanager
def report(name: str):
    """Prints the time of what runs within it and the peak of the process' memory."""
    started = time.perf_counter()
    yield
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\n{name}: {time.perf_counter() - started:.0f} s, peak {memory:.1f} GiB")
