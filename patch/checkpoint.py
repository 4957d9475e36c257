"""A joint adapter in one safetensors file, with its configuration as JSON under "config" in the header.

Tensors are named `{role}_lora.{layer}.lora_A.weight` (each role is an ordinary PEFT state dict under its prefix) and
`post.{attention}.{layer}.weight`.
"""

import json
import os
import pickle
from pathlib import Path

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from patch.adapters import add_managed, check_rank, check_y_layers, lora_tensors, patched_with_joint
from patch.call import check_present, check_stray, pick_up_loras
from patch.control import device_of
from patch.cut import cut_rank
from patch.network import label, network, own_layers, patched_network, refuse_offloaded, self_attentions
from patch.post import build_post, post_key
from patch.published import is_published, read_published
from patch.state import ROLES, JointSpec, lora_name

FORMAT_VERSION = 1
FIELDS = ("name", "post", "post_rank", "kv", "temporal", "model_class", "lora")
LORA_FIELDS = ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora", "lora_bias")


def save(
    model,
    folder: str | os.PathLike,
    name: str | None = None,
    base_model: str | None = None,
    training: dict | None = None,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes a joint adapter to `{folder}/{name}.safetensors` (`joint.safetensors` without a name); returns the path.

    base_model: name or folder of the model it was trained on. training: arguments worth keeping, as JSON can hold them.
    dtype: of the file, by default that of the weights; `torch.float16` halves it.
    Raises FileExistsError when the file exists, unless `overwrite`; ValueError when LoRAs of the adapter are gone.
    """
    net = patched_network(model)
    if name not in net._duet.joints:
        raise ValueError(f"There is no joint adapter {label(name)} to save: add it with patch.add_joint first.")
    if not (dtype is None or dtype.is_floating_point):
        raise ValueError(f"dtype={dtype} cannot hold weights: choose a floating point type.")
    pick_up_loras(net)
    check_present(net._duet, {name})
    check_stray(net._duet)
    path = Path(folder) / file_name(name)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists: choose another folder or name, or pass overwrite=True.")
    tensors = {key: tensor.detach().to("cpu", dtype).contiguous() for key, tensor in adapter_tensors(net, name).items()}
    config = adapter_config(net, name) | {"base_model": base_model, "training": training or {}}
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    unfinished.touch()
    mode = unfinished.stat().st_mode  # that of any new file; safetensors lets the owner alone read its own
    save_file(tensors, unfinished, metadata={"format": "pt", "config": json.dumps(config)})
    unfinished.chmod(mode)
    os.replace(unfinished, path)
    return path


def load(
    model,
    folder: str | os.PathLike,
    name: str | None = None,
    rank: int | None = None,
    y_layers: str = "attention",
) -> dict:
    """Patches the model if need be, adds the joint adapter of a file or folder, frozen, and returns its configuration.

    folder: a file or folder written by `save`, a folder in UniCon's published layout, or a name on the hub.
    name: the adapter in the folder, and its name in the model; may be left out where there is one. Another name
    renames it. rank: cuts LoRAs of a larger one to their largest singular values (`patch/cut.py`). y_layers: "all" adds
    LoRAs, which change nothing yet, to the layers of y that have none in the file (see `add_joint`).
    Raises ValueError, and leaves the model alone, when the file is damaged or was made for another base.
    """
    net = network(model)
    refuse_offloaded(net)
    check_y_layers(y_layers)
    config, tensors = read(folder, name)
    name = config["name"] = name or config["name"]
    check_fit(net, config, tensors)
    if rank is not None:
        check_rank(rank)
        config, tensors = cut_rank(config, tensors, rank)
    patched_with_joint(net, JointSpec(name, *(config[key] for key in ("post", "post_rank", "temporal", "kv"))))
    for role, lora in config["lora"].items():
        targets = {layer for layer, _ in lora_keys(tensors, role)}
        targets |= {*own_layers(net)} if (role, y_layers) == ("y", "all") else set()
        add_managed(net, LoraConfig(**lora, target_modules=sorted(targets)), lora_name(name, role))
    with torch.no_grad():
        for key, parameter in adapter_tensors(net, name).items():
            parameter.copy_(tensors.get(key, parameter)).requires_grad_(False)
    net._duet.update(device_of(net))
    return config


def read_config(folder: str | os.PathLike, name: str | None = None) -> dict:
    """The configuration of a saved adapter, without its weights and without a model."""
    return read(folder, name, weights=False)[0]


def file_name(name: str | None) -> str:
    return f"{name or 'joint'}.safetensors"


def adapter_tensors(net: nn.Module, name: str | None) -> dict[str, torch.Tensor]:
    """Every tensor of an adapter under its key in the file."""
    tensors = {}
    layers = [(path, module) for path, module in net.named_modules() if isinstance(module, LoraLayer)]
    for role in ROLES:
        for path, layer in layers:
            for key, parameter in lora_tensors(layer, lora_name(name, role)).items():
                tensors[f"{role}_lora.{path}.{key}"] = parameter
    for path, attn in self_attentions(net, net._duet.joints[name].temporal):
        for key, parameter in attn.joint_post[post_key(name)].named_parameters():
            tensors[f"post.{path}.{key}"] = parameter
    return tensors


def adapter_config(net: nn.Module, name: str | None) -> dict:
    spec, configs = net._duet.joints[name], getattr(net, "peft_config", {})
    loras = {role: configs[lora_name(name, role)] for role in ROLES if lora_name(name, role) in configs}
    first = next(iter(loras.values()), None)
    return {
        "format_version": FORMAT_VERSION,
        "name": name,
        "rank": first and first.r,
        "alpha": first and first.lora_alpha,
        "post": spec.post,
        "post_rank": spec.post_rank,
        "kv": spec.kv,
        "temporal": spec.temporal,
        "model_class": type(net).__name__,
        "lora": {role: {field: getattr(config, field) for field in LORA_FIELDS} for role, config in loras.items()},
    }


def read(folder: str | os.PathLike, name: str | None = None, weights: bool = True) -> tuple[dict, dict]:
    """Configuration and tensors of a saved or published adapter, without a model; no tensors without `weights`."""
    folder = local_folder(folder)
    published = is_published(folder)
    path = folder if published or folder.is_file() else find_file(folder, name)
    try:
        return read_published(path, name) if published else read_file(path, weights)
    except (SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError) as error:
        raise ValueError(f"{path} holds no readable weights ({error}): copy or download it again.") from error


def read_file(path: Path, weights: bool) -> tuple[dict, dict]:
    with safe_open(path, "pt") as file:
        header = json.loads((file.metadata() or {}).get("config", "{}"))
    tensors = load_file(path) if weights else {}
    if header.get("format_version") != FORMAT_VERSION:
        raise ValueError(f"{path} is no joint adapter of format {FORMAT_VERSION}: it was not written by patch.save.")
    missing = [field for field in FIELDS if field not in header]
    if missing:
        raise ValueError(f"{path} has a header without {', '.join(missing)}: copy or download it again.")
    return header, tensors


def local_folder(folder: str | os.PathLike) -> Path:
    path = Path(folder)
    if path.exists():
        return path
    if str(folder).count("/") != 1 or str(folder).startswith((".", "/", "~")):
        raise FileNotFoundError(f"{folder} does not exist: give a folder written by patch.save.")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(folder), allow_patterns=["*.safetensors", "*.pth"]))
    except Exception as error:
        raise FileNotFoundError(f"{folder} is neither a folder here nor a repository that can be reached.") from error


def find_file(folder: Path, name: str | None) -> Path:
    if name is not None and (folder / file_name(name)).is_file():
        return folder / file_name(name)
    found = sorted(path for path in folder.glob("*.safetensors") if not path.name.startswith("."))
    if len(found) != 1:
        names = ", ".join(path.stem for path in found) or "none"
        raise FileNotFoundError(f"{folder} has no single adapter to load as {label(name)}: it holds {names}.")
    return found[0]


def check_fit(net: nn.Module, config: dict, tensors: dict) -> None:
    """Raises when the file's layers are not the model's, before anything is changed."""
    check_whole(config, tensors)
    expected = expected_shapes(net, config, tensors)
    for key in sorted(expected.keys() | tensors.keys()):
        found = tuple(tensors[key].shape) if key in tensors else None
        if found != expected.get(key):
            raise ValueError(
                f"The adapter {label(config['name'])} was made for another base model "
                f"({config.get('base_model') or config['model_class']}): {key} is {found} in the file and "
                f"{expected.get(key)} in this {type(net).__name__}."
            )


def check_whole(config: dict, tensors: dict) -> None:
    """Raises where the two matrices of a LoRA differ in rank, one is missing, or the header has another rank."""
    for role, fields in config["lora"].items():
        for layer in {layer for layer, _ in lora_keys(tensors, role)}:
            pair = [tensors.get(f"{role}_lora.{layer}.lora_{part}.weight") for part in "AB"]
            ranks = [None if matrix is None else matrix.shape[dim] for dim, matrix in enumerate(pair)]
            if ranks[0] != ranks[1] or (ranks[0] != fields["r"] and not fields.get("rank_pattern")):
                raise ValueError(
                    f"The adapter {label(config['name'])} is damaged: {role}_lora on {layer} has matrices of rank "
                    f"{ranks[0]} and {ranks[1]}, and rank {fields['r']} in the header: copy or download it again."
                )


def expected_shapes(net: nn.Module, config: dict, tensors: dict) -> dict[str, tuple]:
    shapes = {}
    for path, attn in self_attentions(net, config["temporal"]):
        with torch.device("meta"):
            post = build_post(config["post"], attn, config["post_rank"])
        shapes |= {f"post.{path}.{key}": tuple(p.shape) for key, p in post.named_parameters()}
    layers = dict(net.named_modules())
    for role in config["lora"]:
        for layer, part in lora_keys(tensors, role):
            shapes[f"{role}_lora.{layer}.{part}"] = lora_shape(
                layers.get(layer), part, tensors[f"{role}_lora.{layer}.{part}"]
            )
    return shapes


def lora_shape(layer: nn.Module | None, part: str, tensor: torch.Tensor) -> tuple | None:
    """The file's shape with the model's width in place of the file's."""
    weight = getattr(layer, "weight", None)
    if weight is None or tensor.dim() != weight.dim():
        return tuple(tensor.shape) if weight is not None else None
    if part.startswith("lora_A"):
        return (tensor.shape[0], *weight.shape[1:])
    return (weight.shape[0], *tensor.shape[1:])


def lora_keys(tensors: dict, role: str) -> list[tuple[str, str]]:
    """(layer, part of PEFT's adapter) of each LoRA tensor of a role."""
    keys = [key.removeprefix(f"{role}_lora.") for key in tensors if key.startswith(f"{role}_lora.")]
    return [(layer, f"lora_{part}") for layer, _, part in (key.rpartition(".lora_") for key in keys)]
