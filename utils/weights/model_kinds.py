"""What a folder or file of weights holds, read from its index, configuration or header; no weights are loaded.

Every argument that names weights is checked with it before anything is loaded, so that a base in the place of an
adapter, or the reverse, is refused with one sentence that says what was passed and what is needed.
"""

import inspect
import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from utils.formats.folders import list_files

INDEX = "model_index.json"
FAMILIES = {  # pipelines of diffusers by the name that people know, and an example
    "StableDiffusionPipeline": ("Stable Diffusion", "weights/tiny_sd or stable-diffusion-v1-5/stable-diffusion-v1-5"),
    "StableVideoDiffusionPipeline": (
        "Stable Video Diffusion",
        "weights/tiny_svd or stabilityai/stable-video-diffusion-img2vid-xt",
    ),
    "TextToVideoTripPipeline": ("text to video", "ali-vilab/text-to-video-ms-1.7b"),
}
NETWORKS = {  # by class: what they are, and where one is found
    "ControlNetSVD": (
        "a ControlNet for Stable Video Diffusion",
        "as train_svd_controlnet.py and train_trajectory.py write it",
    ),
    "UNetSpatioTemporalMaskedConditionModel": (
        "a video UNet that reads known frames",
        "as train_svd_trans.py writes it",
    ),
    "AutoencoderKL": ("an autoencoder of images", "such as weights/tiny_sd/vae"),
    "AutoencoderKLTemporalDecoder": ("an autoencoder of videos", "such as weights/tiny_svd/vae"),
}
PARTS = {  # files that tell a folder which is a part of a base
    "scheduler_config.json": "a scheduler",
    "tokenizer_config.json": "a tokenizer",
    "preprocessor_config.json": "an image processor",
}
JOINT, LORA = "joint adapter", "LoRA"
LORA_FILE = "pytorch_lora_weights.safetensors"


def describe(path: str | Path) -> str:
    """What is at a path, as the end of the sentence "weights/tiny_sd is …"."""
    path = Path(path)
    if not path.exists():
        return "missing"
    return _describe_folder(path) if path.is_dir() else _describe_file(path)


def check_pipeline(name: str | Path, needed: type, flag: str = "") -> None:
    """Raises ValueError unless the folder is a base that the pipeline class can load.

    Args:
        name: A folder. Names on the hub are looked up by `index_of`.
        needed: `StableDiffusionPipeline`, `StableVideoDiffusionPipeline` or a subclass.
        flag: What the user passed it by, such as "--model_dir".
    """
    family = _family(needed)
    title, example = FAMILIES[family.__name__]
    index = index_of(name)
    if index is None:
        if not Path(name).exists():
            return
        found = describe(name)
    elif _fits(index, needed, family):
        return
    else:
        found = _describe_index(index)
    raise ValueError(f"{_said(flag, name)} is {found}; a {title} base is needed, such as {example}.")


def check_network(name: str | Path, needed: type | tuple[type, ...], flag: str = "") -> None:
    """Raises ValueError where the path exists and holds something else than a network of that class, or one of them."""
    path, classes = Path(name), needed if isinstance(needed, tuple) else (needed,)
    if not path.exists() or _class_name(path) in [one.__name__ for one in classes]:
        return
    unnamed = (f"a {classes[0].__name__}", "as save_pretrained writes it")
    titles = [NETWORKS.get(one.__name__, unnamed) for one in classes]
    wanted = " or ".join(title for title, _ in titles)
    raise ValueError(f"{_said(flag, name)} is {describe(path)}; {wanted} is needed, {titles[0][1]}.")


def check_adapter(
    name: str | Path, unet_class: str, trained_by: str, flag: str = "", kind: str = "a joint adapter"
) -> None:
    """Refuses what has no joint adapter for a UNet of that class.

    Args:
        name: A file, a folder, or a name on the hub, which is not looked up.
        trained_by: Script that writes such adapters, for the sentence.
        kind: What the sentence asks for.

    Raises:
        FileNotFoundError: There is no such file or folder, nor could the hub have one of that name.
        ValueError: It holds something else.
    """
    path = Path(name)
    if not path.exists():
        if str(name).count("/") == 1 and not str(name).startswith((".", "/", "~")):
            return
        raise FileNotFoundError(f"{_said(flag, name)} does not exist; {kind} of {trained_by} is needed.")
    headers = _headers(path)
    joint = [header for header in headers.values() if _kind_of(header) == JOINT]
    fits = any(header["config"]["model_class"] == unet_class for header in joint)
    if fits or _has_published(path, unet_class):
        return
    raise ValueError(f"{_said(flag, name)} is {describe(path)}; {kind} of {trained_by} is needed.")


def joint_names(name: str | Path) -> list[str]:
    """Names of the joint adapters in a file or folder."""
    headers = _headers(Path(name)).values() if Path(name).exists() else []
    return [header["config"]["name"] for header in headers if _kind_of(header) == JOINT]


def check_lora(name: str | Path, trained_by: str, flag: str = "", flow: bool | None = None) -> None:
    """Refuses what has no LoRA in diffusers' format.

    Args:
        trained_by: Script that writes such LoRAs, for the sentence.
        flow: Whether it has to make a base generate optical flow, or must not; by default either will do.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: It holds something else.
    """
    if not Path(name).exists():
        raise FileNotFoundError(f"{_said(flag, name)} does not exist; a LoRA of {trained_by} is needed.")
    headers = [header for header in _headers(Path(name)).values() if _kind_of(header) == LORA]
    if not any(flow is None or flow == _is_of_flow(header) for header in headers):
        raise ValueError(f"{_said(flag, name)} is {describe(name)}; a LoRA of {trained_by} is needed.")


def read_estimator(name: str | Path) -> dict | None:
    """How a LoRA of `train_depth_image.py --objective one_step` was trained; None for anything else.

    Among the flags is `condition`, what it estimates from an image; beside them `latent_scale`.

    Args:
        name: A file, or a folder that has it under diffusers' name and no joint adapter beside it.
    """
    path = Path(name)
    if path.is_dir() and not joint_names(path):
        path /= LORA_FILE
    header = _read_header(path) if path.is_file() else None
    return header["config"]["training"] if header and _condition_of(header) else None


def _is_of_flow(header: dict) -> bool:
    return "flow_code" in (header["config"].get("training") or {})


def _condition_of(header: dict) -> str | None:
    """What a LoRA estimates from an image in one step, if it does."""
    training = header["config"].get("training") or {}
    estimates = _kind_of(header) == LORA and training.get("objective") == "one_step"
    return training.get("condition") if estimates else None


def index_of(name: str | Path) -> dict | None:
    """The index of a pipeline in a folder or on the hub; None where there is none, or it cannot be reached."""
    path = Path(name)
    if not path.exists():
        from huggingface_hub import hf_hub_download

        try:
            path = Path(hf_hub_download(str(name), INDEX)).parent
        except (OSError, ValueError):  # offline, unknown, gated: what loads it says so
            return None
    return _read_json(path / INDEX)


def _said(flag: str, name: str | Path) -> str:
    return f"{flag} {name}".strip()


def _family(pipeline: type) -> type:
    return next(one for one in pipeline.__mro__ if one.__name__ in FAMILIES)


def _fits(index: dict, needed: type, family: type) -> bool:
    """Whether the base has the parts that the pipeline takes, no others, and networks of the right classes."""
    has = {name: value[1] for name, value in index.items() if isinstance(value, list) and value[1] is not None}
    takes = inspect.signature(needed.__init__).parameters
    types = inspect.signature(family.__init__).parameters
    optional = {*needed._optional_components, *family._optional_components}
    if set(has) - set(takes) or {name for name in _components(takes) if name not in optional} - set(has):
        return False
    networks = [name for name in ("unet", "vae") if name in has]
    return all(has[name] == types[name].annotation.__name__ for name in networks)


def _components(parameters) -> list[str]:
    return [name for name, one in parameters.items() if name != "self" and one.default is inspect.Parameter.empty]


def _describe_folder(path: Path) -> str:
    if index := _read_json(path / INDEX):
        return _describe_index(index)
    if name := _class_name(path):
        title = f"{NETWORKS[name][0]} ({name})" if name in NETWORKS else f"a network ({name})"
        return title + (f", a part of the base {path.parent}" if (path.parent / INDEX).is_file() else "")
    if part := next((text for file, text in PARTS.items() if (path / file).is_file()), None):
        return part
    kinds = sorted({_describe_header(header) for header in _headers(path).values()})
    if kinds:
        return " and ".join(kinds)
    if _has_published(path):
        return "a published joint adapter for Stable Diffusion"
    if checkpoints := sorted(one.name for one in path.glob("checkpoint-*")):
        return f"a folder of a training that has not ended ({checkpoints[-1]})"
    if bases := sorted(one.parent.name for one in path.glob(f"*/{INDEX}")):
        return f"a folder of models ({', '.join(bases[:3])})"
    return "a folder without a model" if any(path.iterdir()) else "an empty folder"


def _describe_file(path: Path) -> str:
    headers = _headers(path)
    if headers:
        return _describe_header(headers[path.name])
    return f"a {path.suffix.lower() or 'nameless'} file and no model"


def _describe_index(index: dict) -> str:
    name = index.get("_class_name", "")
    unet = index.get("unet") or [None, None]
    family = {
        "UNet2DConditionModel": "Stable Diffusion",
        "UNetSpatioTemporalConditionModel": "Stable Video Diffusion",
        "UNet3DConditionModel": "text to video",
    }
    plain = name in (*FAMILIES, "TextToVideoSDPipeline") or name.startswith("StableVideoDiffusion")
    return f"a {family[unet[1]]} base ({name})" if plain and unet[1] in family else f"a {name or 'pipeline'}"


def _describe_header(header: dict) -> str:
    kind = _kind_of(header)
    if kind == JOINT:
        config = header["config"]
        base = "Stable Video Diffusion" if "Temporal" in config["model_class"] else "Stable Diffusion"
        return f"a joint adapter ({config['name']}) for {base}"
    if kind == LORA:
        if condition := _condition_of(header):
            return f"a LoRA that estimates {condition} in one step"
        return "a LoRA" + (" that makes Stable Video Diffusion generate optical flow" if _is_of_flow(header) else "")
    if judge := header.get("judge"):
        return f"a judge of results ({judge})"
    return "a file of weights without a configuration"


def _kind_of(header: dict) -> str | None:
    if {"model_class", "lora", "post"} <= header["config"].keys():
        return JOINT
    return LORA if any(".lora" in key for key in header["keys"]) else None


def _headers(path: Path) -> dict[str, dict]:
    """For each .safetensors file its metadata, the JSON under "config" read, and "keys", the names of its tensors."""
    files = [path] if path.is_file() else list_files(path, {".safetensors"})
    return {file.name: header for file in files if (header := _read_header(file))}


def _read_header(path: Path) -> dict | None:
    if path.suffix != ".safetensors":
        return None
    try:
        with safe_open(path, "pt") as file:
            header = dict(file.metadata() or {})
            config = json.loads(header.get("config", "{}"))
            return header | {"config": config if isinstance(config, dict) else {}, "keys": list(file.keys())}
    except (SafetensorError, OSError, ValueError):
        return None


def _class_name(path: Path) -> str | None:
    config = (_read_json(path / "config.json") if path.is_dir() else None) or {}
    return config.get("_class_name") or next(iter(config.get("architectures") or []), None)


def _has_published(path: Path, unet_class: str = "UNet2DConditionModel") -> bool:
    """Whether it has the layout of UniCon's published adapters, which are all for Stable Diffusion."""
    layout = path.is_dir() and ((path / "model.pth").is_file() or (path / "xy_lora").is_dir())
    return layout and unet_class == "UNet2DConditionModel"


def _read_json(path: Path) -> dict | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
