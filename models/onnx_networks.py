"""The networks that are exported to ONNX: those of a model folder, or of a published size with random weights."""

from collections.abc import Callable
from pathlib import Path

import diffusers
import torch
import transformers

from models.onnx_parts import (
    Part,
    condition_encoder,
    image_decoder,
    image_encoder,
    image_unet,
    video_decoder,
    video_unet,
)
from utils.pretrained import loading
from utils.weights.model_kinds import describe, index_of

# For each UNet class the parts: subfolder of the model, and what makes the part of the network in it.
PARTS: dict[str, dict[str, tuple[str, Callable[[torch.nn.Module], Part]]]] = {
    "UNet2DConditionModel": {"unet": ("unet", image_unet), "decoder": ("vae", image_decoder)},
    "UNetSpatioTemporalConditionModel": {
        "unet": ("unet", video_unet),
        "decoder": ("vae", video_decoder),
        "encoder": ("vae", condition_encoder),
        "image_encoder": ("image_encoder", image_encoder),
    },
}
_VAE = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2}
_BLOCKS = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
# Networks of the published sizes: class and configuration of each subfolder. The rest is the class's default.
RANDOM_SIZES: dict[str, dict[str, tuple[str, dict]]] = {
    "sd15": {
        "unet": ("UNet2DConditionModel", {"cross_attention_dim": 768, "attention_head_dim": 8}),
        "vae": ("AutoencoderKL", _VAE | _BLOCKS),
    },
    "svd": {
        "unet": ("UNetSpatioTemporalConditionModel", {"num_attention_heads": (5, 10, 20, 20)}),
        "vae": ("AutoencoderKLTemporalDecoder", _VAE | {"down_block_types": _BLOCKS["down_block_types"]}),
    },
}


def folder_networks(folder: Path) -> dict[str, Callable[[], Part]]:
    """For each part of the model in a folder a function that loads it.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It holds something else than a base.
    """
    needed = "a Stable Diffusion or Stable Video Diffusion base is needed, such as weights/tiny_sd"
    if not folder.exists():
        raise FileNotFoundError(f"There is no --model_dir {folder}; {needed}.")
    index = index_of(folder) or {}
    classes = {name: value for name, value in index.items() if isinstance(value, list)}

    def load(subfolder: str) -> torch.nn.Module:
        library, name = classes[subfolder]
        found = getattr({"diffusers": diffusers, "transformers": transformers}[library], name)
        with loading(folder):
            return found.from_pretrained(folder, subfolder=subfolder, dtype=torch.float32)

    unet = classes.get("unet", [None, None])[1]
    if unet not in PARTS or "text_encoder_2" in classes:
        raise ValueError(f"--model_dir {folder} is {describe(folder)}; {needed}.")
    return {part: lambda sub=sub, make=make: make(load(sub)) for part, (sub, make) in PARTS[unet].items()}


def random_networks(size: str) -> dict[str, Callable[[], Part]]:
    """For each part of a published size a function that makes it with random weights."""

    def build(subfolder: str) -> torch.nn.Module:
        name, config = RANDOM_SIZES[size][subfolder]
        torch.manual_seed(0)
        return getattr(diffusers, name)(**config)

    parts = PARTS[RANDOM_SIZES[size]["unet"][0]]
    return {
        part: lambda sub=sub, make=make: make(build(sub))
        for part, (sub, make) in parts.items()
        if sub in RANDOM_SIZES[size]
    }
