"""Tiny models of every supported kind, with inputs, and adapters that have learnt something."""

from types import SimpleNamespace

import pytest
import torch
from diffusers import (
    PixArtTransformer2DModel,
    UNet2DConditionModel,
    UNetMotionModel,
    UNetSpatioTemporalConditionModel,
)
from peft import LoraConfig

import patch

TEXT = 8


def blocks(kind):
    """Two levels, of which the first attends to the text."""
    return {
        "down_block_types": (f"CrossAttnDownBlock{kind}", f"DownBlock{kind}"),
        "up_block_types": (f"UpBlock{kind}", f"CrossAttnUpBlock{kind}"),
        "layers_per_block": 1,
        "cross_attention_dim": TEXT,
    }


def sd(**changes):
    config = {
        "sample_size": 8,
        "block_out_channels": (8, 16),
        **blocks("2D"),
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    }
    return UNet2DConditionModel(**config | changes)


def sd21():
    return sd(use_linear_projection=True, upcast_attention=True, attention_head_dim=(2, 4))


def sdxl():
    return sd(
        transformer_layers_per_block=(2, 3),
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=6 * 4 + TEXT,
    )


def svd():
    return UNetSpatioTemporalConditionModel(
        sample_size=8,
        block_out_channels=(32, 64),
        **blocks("SpatioTemporal"),
        transformer_layers_per_block=1,
        num_attention_heads=(2, 4),
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24,
        num_frames=3,
    )


def motion():
    sizes = {"sample_size": 8, "block_out_channels": (8, 16), "norm_num_groups": 4}
    heads = {"num_attention_heads": 2, "motion_num_attention_heads": 2}
    return UNetMotionModel(**blocks("Motion"), **sizes, **heads)


def pixart():
    return PixArtTransformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        num_attention_heads=2,
        attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=TEXT,
        norm_num_groups=4,
        use_additional_conditions=False,
    )


KINDS = {"sd": sd, "sd21": sd21, "sdxl": sdxl, "svd": svd, "motion": motion, "pixart": pixart}
FRAMES = 3


@torch.no_grad()
def make_net(kind: str, seed: int = 0, **changes):
    """A network whose every layer matters (diffusers initialises some to zero), frozen.

    PyTorch takes other kernels for a linear layer that needs a gradient, so that freezing alone moves the last bit.
    """
    torch.manual_seed(seed)
    net = KINDS[kind](**changes).eval().requires_grad_(False)
    for parameter in net.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    return net


def make_inputs(kind: str, batch: int = 4) -> dict:
    generator = torch.Generator().manual_seed(batch)

    def random(*shape):
        return torch.randn(shape, generator=generator)

    timestep = torch.linspace(900, 100, batch)
    if kind == "svd":
        ids = torch.tensor([[6.0, 127.0, 0.02]]).repeat(batch, 1)
        return {
            "sample": random(batch, FRAMES, 8, 8, 8),
            "timestep": timestep,
            "encoder_hidden_states": random(batch, 1, TEXT),
            "added_time_ids": ids,
        }
    if kind == "pixart":
        text = random(batch, 5, TEXT)
        added = {"resolution": None, "aspect_ratio": None}
        sample = random(batch, 4, 8, 8)
        return {
            "hidden_states": sample,
            "timestep": timestep,
            "encoder_hidden_states": text,
            "added_cond_kwargs": added,
        }
    shape = (batch, 4, FRAMES, 8, 8) if kind == "motion" else (batch, 4, 8, 8)
    text = random(batch, 5, TEXT)
    if kind == "motion":  # as its pipelines do
        text = text.repeat_interleave(FRAMES, dim=0)
    inputs = {"sample": random(*shape), "timestep": timestep, "encoder_hidden_states": text}
    if kind == "sdxl":
        inputs["added_cond_kwargs"] = {"text_embeds": random(batch, TEXT), "time_ids": torch.ones(batch, 6)}
    return inputs


@torch.no_grad()
def run_net(net, kind: str = "sd", batch: int = 4) -> torch.Tensor:
    return net(**make_inputs(kind, batch)).sample


@torch.no_grad()
def teach(net, name: str | None = None, seed: int = 1) -> None:
    """Gives an adapter weights other than zero."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in patch.joint_parameters(net, name):
        parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))


def two_adapters(post: str = "fuse"):
    """A network with the joint adapters "depth" and "edge", which have learnt something; no pairs are set."""
    net = make_net("sd")
    for seed, name in enumerate(("depth", "edge")):
        patch.add_joint(net, name, rank=2, alpha=3, post=post)
        teach(net, name, seed)
    return net


PAIRINGS = {
    "one pair": [patch.Pair(0, 1, "depth")],
    "pairs in any order": [patch.Pair(3, 0, "depth"), patch.Pair(1, 2, "depth")],
    "x reads y": [patch.Pair(0, 2, "depth", direction="x_reads_y"), patch.Pair(1, 3, "depth")],
    "y reads x": [patch.Pair(0, 2, "depth", direction="y_reads_x"), patch.Pair(1, 3, "depth", 0.5, "x_reads_y")],
    "two conditions of one x": [patch.Pair(0, 1, "depth", 0.7), patch.Pair(0, 2, "edge", -0.4)],
    "one y twice under one name": [patch.Pair(0, 2, "depth", 0.7), patch.Pair(1, 2, "depth", 0.4)],
    "one y under two names": [patch.Pair(0, 2, "depth", 0.7), patch.Pair(1, 2, "edge", 0.4)],
    "weights per side": [patch.Pair(0, 1, "edge", 0.7, weight_y=0.2), patch.Pair(2, 3, "edge", 0.5, weight_y=0.0)],
    "weights as tensors": [patch.Pair(0, 1, "edge", torch.tensor(0.3)), patch.Pair(2, 3, "depth", torch.tensor([2.0]))],
}


@pytest.fixture
def tiny():
    """make, inputs, run, teach, two_adapters, pairings, frames: see this file."""
    functions = {"make": make_net, "inputs": make_inputs, "run": run_net, "teach": teach, "two_adapters": two_adapters}
    return SimpleNamespace(**functions, pairings=PAIRINGS, frames=FRAMES)


@pytest.fixture(params=list(PAIRINGS.values()), ids=list(PAIRINGS))
def pairs(request):
    """Pairs of four samples of `two_adapters`."""
    return request.param


@pytest.fixture
def net():
    return make_net("sd")


@pytest.fixture(params=list(KINDS))
def kind(request):
    return request.param


@pytest.fixture
def joint_net(net):
    """A network with a joint adapter "depth" that has learnt something; no pairs are set."""
    patch.add_joint(net, "depth", rank=2, alpha=3)
    teach(net, "depth")
    return net


def lora_config(targets, **changes):
    return LoraConfig(r=2, lora_alpha=3, target_modules=targets, init_lora_weights=False, **changes)


@pytest.fixture
def lab_net(net):
    """A network prepared step by step, with the adapters xy_lora, yx_lora and y_lora; no masks, no pairs."""
    patch.apply_patch(net)
    patch.initialize_joint_layers(net, post="conv")
    torch.manual_seed(1)
    for role in ("xy", "yx"):
        net.add_adapter(lora_config(patch.joint_lora_targets(net)), adapter_name=f"{role}_lora")
    net.add_adapter(lora_config(patch.self_lora_targets(net)), adapter_name="y_lora")
    patch.hack_lora_forward(net)
    for name, parameter in net.named_parameters():
        if "joint_post" in name:
            torch.nn.init.normal_(parameter)
    return net
