"""Files of plain LoRAs for networks without `load_lora_weights`, such as the UNet of Stable Video Diffusion.

The file is that of diffusers: `pytorch_lora_weights.safetensors`, keys `unet.{layer}.lora_A.weight`, and the
configuration in the header under `lora_adapter_metadata`, without which an alpha other than the rank would be lost.
"""

import json
import re
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import patch
from utils.files import replacing
from utils.weights.model_kinds import LORA_FILE, joint_names

PREFIX = "unet."
METADATA = "lora_adapter_metadata"
Y = "y_lora."
A, B = ".lora_A.weight", ".lora_B.weight"
FIELDS = ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora", "lora_bias")
PROJECTIONS = r"\.attn[12]\.(to_[qkv]|to_out\.0)$"
TARGETS = {
    "temporal": r"\.temporal_transformer_blocks\." + ".*" + PROJECTIONS,
    "spatial": r"\.transformer_blocks\." + ".*" + PROJECTIONS,
    "all": r"\.(temporal_)?transformer_blocks\." + ".*" + PROJECTIONS,
}


def lora_targets(unet: nn.Module, targets: str = "temporal") -> list[str]:
    """Full names of the layers to adapt.

    Args:
        targets: "temporal", "spatial" or "all" attention; anything else is a regular expression that is searched in
            the names of the network's own linear layers and convolutions.

    Raises:
        ValueError: It is no regular expression, or fits no layer.
    """
    try:
        pattern = re.compile(TARGETS.get(targets, targets))
    except re.error as error:
        raise ValueError(f"{targets!r} is no regular expression: {error}.") from error
    own = patch.own_layers(unet)
    layers = [name for name in own if pattern.search(name)]
    if not layers:
        fitting = [name for name, known in TARGETS.items() if any(re.search(known, layer) for layer in own)]
        raise ValueError(
            f"No layer is called {targets!r} or matches it: choose {', '.join(fitting)} or another expression."
        )
    return layers


def add_lora(
    unet: nn.Module,
    rank: int,
    alpha: float | None = None,
    targets: str = "temporal",
    adapter_name: str = "default",
) -> list[nn.Parameter]:
    """Add a LoRA, which changes nothing yet, and return its parameters; everything else is frozen.

    alpha: The update is scaled by alpha / rank; by default the rank.
    """
    layers = lora_targets(unet, targets)
    alpha = rank if alpha is None else alpha
    patch.add_adapter(unet, LoraConfig(r=rank, lora_alpha=alpha, target_modules=layers), adapter_name, beside=True)
    unet.requires_grad_(False)
    parameters = [p for name, p in unet.named_parameters() if f".{adapter_name}." in name and ".lora_" in name]
    for parameter in parameters:
        parameter.requires_grad_(True)
    return parameters


def begin_lora(unet: nn.Module, path: str | Path) -> None:
    """Give the adapter "default" of `add_lora` the values of another one, whose larger ranks are cut (`patch/cut.py`).

    Layers that only one of them has are left as they are; how many begin so is printed.

    Args:
        path: File or folder of a LoRA, or of a joint adapter, whose LoRAs of the rows of y are taken.

    Raises:
        ValueError: It was made for another network, its rank is smaller, or they have no layer in common.
    """
    own = unet.peft_config["default"].r
    rank, scale, tensors = _read_cut(path, own)
    if rank < own:
        raise ValueError(f"{path} has rank {rank}: pass --rank {rank} instead of {own}.")
    part = ".default."
    parameters = {name.replace(part, "."): value for name, value in unet.named_parameters() if part in name}
    shared = [name for name in parameters if name in tensors]
    if not shared:
        raise ValueError(f"{path} has LoRAs on other layers than those that are trained: change --lora_targets.")
    if wrong := [name for name in shared if tensors[name].shape != parameters[name].shape]:
        raise ValueError(f"{path} was made for another network: {wrong[0]} is {tuple(tensors[wrong[0]].shape)} there.")
    with torch.no_grad():
        for name in shared:
            parameters[name].copy_(tensors[name].float() * (scale if ".lora_B." in name else 1))
    print(f"{len(shared) // 2} of {len(parameters) // 2} LoRAs begin as in {path}.")


def _read_cut(path: str | Path, rank: int) -> tuple[int, float, dict[str, torch.Tensor]]:
    """Rank, scale and tensors of an adapter, by PEFT's names, of at most a rank."""
    fields, tensors = _read(path)
    config, tensors = patch.cut_rank({"lora": {"y": fields}}, tensors, rank)
    fields = config["lora"]["y"]
    return fields["r"], fields["lora_alpha"] / fields["r"], tensors


def save_lora(
    unet: nn.Module,
    path: str | Path,
    adapter_name: str = "default",
    base_model: str | None = None,
    training: dict | None = None,
    dtype: torch.dtype | None = None,
) -> Path:
    """Write an adapter into a folder, or a file whose name ends in .safetensors, and return the file.

    A file of that name is replaced.

    Args:
        base_model: Name or folder of the model that the adapter was trained on.
        training: Arguments worth keeping, as JSON can hold them.
        dtype: Of the file, by default that of the weights.
    """
    config = getattr(unet, "peft_config", {}).get(adapter_name)
    if config is None:
        raise ValueError(f"There is no adapter {adapter_name!r} to save: the network has {_names(unet)}.")
    tensors = get_peft_model_state_dict(unet, adapter_name=adapter_name)
    tensors = {PREFIX + name: value.detach().to("cpu", dtype).contiguous() for name, value in tensors.items()}
    header = {PREFIX + name: value for name, value in config.to_dict().items()}
    about = {"base_model": base_model, "training": training or {}}
    metadata = {"format": "pt", METADATA: _json(header), "config": _json(about)}
    with replacing(lora_file(path)) as temporary:
        save_file(tensors, temporary, metadata=metadata)
    return lora_file(path)


def load_lora(unet: nn.Module, path: str | Path, adapter_name: str = "default") -> None:
    """Add the adapter of a file or folder, frozen, and active beside those that are active already.

    A file without the header has alpha equal to the rank, as diffusers reads it.

    Args:
        path: Of a LoRA, or of a joint adapter, whose LoRAs of the rows of y become those of all rows.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is no whole LoRA, was made for another network, or the name is taken.
    """
    config, tensors = _read(path)
    layers = {name.rpartition(".lora_")[0] for name in tensors}
    _check_fit(unet, path, config, tensors)
    patch.add_adapter(unet, LoraConfig(**config, target_modules=sorted(layers)), adapter_name, beside=True)
    set_peft_model_state_dict(unet, tensors, adapter_name)
    for name, parameter in unet.named_parameters():
        if f".{adapter_name}." in name and ".lora_" in name:
            parameter.requires_grad_(False)


def read_training(path: str | Path) -> dict:
    """The `training` that `save_lora` or `patch.save` was given; empty for a file that something else wrote.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It cannot be read.
    """
    if joint_names(path):
        return patch.read_config(path).get("training") or {}
    path = _found(path)
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get("config", "{}"))
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} holds no readable weights: {error}.") from error
    return about.get("training") or {}


def is_lora(path: str | Path) -> bool:
    """Whether a file or folder holds a LoRA, and not a joint adapter."""
    return lora_file(path).is_file() and not joint_names(path)


def lora_file(path: str | Path) -> Path:
    """The file in a folder; a name that ends in .safetensors is taken as it is."""
    path = Path(path)
    return path if path.suffix == ".safetensors" else path / LORA_FILE


def _found(path: str | Path) -> Path:
    path = lora_file(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no LoRA {path}.")
    return path


def _read(path: str | Path) -> tuple[dict, dict[str, torch.Tensor]]:
    """Fields of the configuration, and tensors named as PEFT names them; of a joint adapter those of the rows of y."""
    if not joint_names(path):
        return _read_lora(_found(path))
    config, tensors = patch.read(path)
    if "y" not in config["lora"]:
        raise ValueError(f"{path} is a joint adapter without LoRAs on the rows of y: pass one that has them.")
    fields = {name: value for name, value in config["lora"]["y"].items() if name in FIELDS}
    return fields, {name.removeprefix(Y): value for name, value in tensors.items() if name.startswith(Y)}


def _read_lora(path: Path) -> tuple[dict, dict[str, torch.Tensor]]:
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {}).get(METADATA, "{}"))
        tensors = {name.removeprefix(PREFIX): value for name, value in load_file(path).items()}
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} holds no readable weights: {error}.") from error
    if not any(name.endswith(A) for name in tensors):
        raise ValueError(f"{path} is no LoRA: it has no lora_A.weight.")
    config = {name.removeprefix(PREFIX): value for name, value in header.items()}
    known = {name: config[name] for name in FIELDS if name in config}
    return known or _plain_config(tensors), tensors


def _plain_config(tensors: dict[str, torch.Tensor]) -> dict:
    """The configuration of a file without header: alpha is the rank, which may be another for each layer."""
    ranks = {name.removesuffix(A): len(value) for name, value in sorted(tensors.items()) if name.endswith(A)}
    rank = next(iter(ranks.values()))
    others = {layer: other for layer, other in ranks.items() if other != rank}
    return {"r": rank, "lora_alpha": rank, "rank_pattern": others, "alpha_pattern": others}


def _check_fit(unet: nn.Module, path: Path, config: dict, tensors: dict[str, torch.Tensor]) -> None:
    layers = dict(unet.named_modules())
    for name, value in tensors.items():
        layer, _, part = name.rpartition(".lora_")
        weight = getattr(layers.get(layer), "weight", None)
        width = None if weight is None else weight.shape[1] if part.startswith("A") else weight.shape[0]
        found = value.shape[1] if part.startswith("A") else value.shape[0]
        if width != found:
            raise ValueError(f"{path} was made for another network: {name} is {found} wide there and {width} here.")
    for layer in {name.rpartition(".lora_")[0] for name in tensors}:
        down, up = (tensors.get(layer + end) for end in (A, B))
        ranks = (None if down is None else down.shape[0], None if up is None else up.shape[1])
        if ranks[0] != ranks[1] or (ranks[0] != config["r"] and not config.get("rank_pattern")):
            raise ValueError(
                f"{path} is damaged: {layer} has matrices of rank {ranks[0]} and {ranks[1]}, and rank {config['r']} in "
                "the header; copy or download it again."
            )


def _names(unet: nn.Module) -> str:
    return ", ".join(getattr(unet, "peft_config", {})) or "none"


def _json(values: dict) -> str:
    return json.dumps(values, default=lambda value: sorted(value) if isinstance(value, set) else str(value))
