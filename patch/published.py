"""UniCon's published folders: `{xy,yx,y}_lora/pytorch_lora_weights.safetensors` and `model.pth` (arXiv 2410.11439)."""

import json
import re
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from patch.state import ROLES

LORA_FILE = "pytorch_lora_weights.safetensors"
# Both of diffusers' spellings, and PEFT's with the adapter's name in it.
LORA_KEY = re.compile(
    r"(?:unet\.)?(?P<layer>.+)\."
    r"(?P<part>lora\.down|lora\.up|lora_linear_layer\.down|lora_linear_layer\.up|lora_A|lora_B)"
    r"(?:\.(?P<role>xy|yx|y)_lora)?\.weight"
)
POST_KEY = re.compile(r"(?:unet\.)?(?P<block>.+)\.conv1n\.weight")


def is_published(folder: Path) -> bool:
    return folder.is_dir() and ((folder / "model.pth").is_file() or any((folder / f"{r}_lora").is_dir() for r in ROLES))


def read_published(folder: Path, name: str | None) -> tuple[dict, dict]:
    """Configuration and tensors as in our own files. There k and v belong to the row that they come from."""
    tensors, posts, alphas = {}, {}, {}
    for role in ROLES:
        path = folder / f"{role}_lora" / LORA_FILE
        if path.is_file():
            tensors |= {lora_key(key, role, path): tensor for key, tensor in load_file(path).items()}
            alphas[role] = read_alpha(path)
    for key, tensor in read_trained(folder / "model.pth").items():
        post = POST_KEY.fullmatch(key)
        if post:
            posts[f"{post['block']}.attn1"] = tensor
        else:
            tensors[lora_key(key, None, folder / "model.pth")] = tensor
    if not posts:
        raise ValueError(f"{folder} has no output projections (conv1n): model.pth is missing or incomplete.")
    layers = {path: split_post(path, weight, tensors) for path, weight in posts.items()}
    tensors |= {f"post.{path}.{key}": tensor for path, (_, parts) in layers.items() for key, tensor in parts.items()}
    ranks = {role: lora_rank(tensors, role) for role in ROLES if lora_rank(tensors, role)}
    # Published without alpha: there it equals the rank.
    loras = {role: {"r": rank, "lora_alpha": alphas.get(role) or rank} for role, rank in ranks.items()}
    first = next(iter(loras.values()), {"r": None, "lora_alpha": None})
    config = {
        "format_version": 1,
        "name": name,
        "rank": first["r"],
        "alpha": first["lora_alpha"],
        "post": next(kind for kind, _ in layers.values()),
        "post_rank": 0,
        "kv": "source",
        "temporal": False,
        "model_class": "UNet2DConditionModel",
        "base_model": None,
        "training": {},
        "lora": loras,
    }
    return config, tensors


def read_trained(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, map_location="cpu", weights_only=True) if path.is_file() else {}


def read_alpha(path: Path) -> float | None:
    """LoRA's alpha as newer versions of diffusers write it in the header."""
    with safe_open(path, "pt") as file:
        saved = json.loads((file.metadata() or {}).get("lora_adapter_metadata", "{}"))
    return next((value for key, value in saved.items() if key.endswith("lora_alpha")), None)


def lora_key(key: str, role: str | None, path: Path) -> str:
    """`…attn1n.to_q.lora.down.weight` -> `xy_lora.…attn1.to_q.lora_A.weight`"""
    found = LORA_KEY.fullmatch(key)
    if found is None or (role or found["role"]) is None:
        raise ValueError(f"{path} has the unknown entry {key}: it is not in UniCon's published layout.")
    layer = found["layer"].replace(".attn1n.", ".attn1.")
    part = "lora_A" if found["part"].endswith(("down", "A")) else "lora_B"
    return f"{role or found['role']}_lora.{layer}.{part}.weight"


def split_post(path: str, weight: torch.Tensor, tensors: dict) -> tuple[str, dict[str, torch.Tensor]]:
    """Post type and its parts: C -> C is "conv", 2C -> 2C is "conv_fuse", in four blocks of [x; y]."""
    channels = next(t.shape[1] for key, t in tensors.items() if key.endswith(f".{path}.to_q.lora_A.weight"))
    if weight.shape[0] == channels:
        return "conv", {"proj.weight": weight.flatten(1)}
    (xx, yx), (xy, yy) = (rows.chunk(2, dim=1) for rows in weight.flatten(1).chunk(2, dim=0))
    return "conv_fuse", {"xx.weight": xx, "yx.weight": yx, "xy.weight": xy, "yy.weight": yy}


def lora_rank(tensors: dict, role: str) -> int | None:
    ranks = [t.shape[0] for key, t in tensors.items() if key.startswith(f"{role}_lora.") and ".lora_A." in key]
    return ranks[0] if ranks else None
