"""Shared by commands and pages on images with their conditions: loading, reading, fitting, sampling, writing."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import patch
from pipelines.pipeline_stable_diffusion_joint import JointOutput, StableDiffusionJointPipeline
from pipelines.sizes import fit_pixels, target_size
from utils.commands.results import write_png
from utils.data.pairs import GRAY
from utils.depth import color_disparity, normalize_disparity, read_disparity, settle_kind, write_disparity
from utils.diffusion.one_step import ONE_STEP
from utils.images import read_image, to_image, to_pixels
from utils.pretrained import choose_device, find_scheduler, load_pipeline
from utils.weights.model_kinds import LORA_FILE, check_adapter, joint_names, read_estimator


def name_adapters(items: Sequence[str], flag: str = "--adapter") -> dict[str, str]:
    """Path by name of adapters given as PATH or NAME=PATH; the name is that in the file where none is given.

    Raises:
        FileNotFoundError: There is no such adapter.
        ValueError: It is another kind of weights, or there is no name.
    """
    adapters = {}
    for item in items:
        name, path = ("", item) if "=" not in item or Path(item).exists() else item.partition("=")[::2]
        check_image_adapter(path, flag)
        name = name or own_name(path, flag)
        if read_estimator(path) and not name.isidentifier():
            raise ValueError(f"{flag} {item}: {name} cannot name an adapter; use letters and digits, no digit first.")
        if name in adapters:
            raise ValueError(f"{flag} {adapters[name]} and {path} are both called {name}: pass NAME={path}.")
        adapters[name] = path
    return adapters


def check_image_adapter(path: str, flag: str) -> None:
    """Refuses what is neither a joint adapter of images nor a LoRA that estimates a condition of them."""
    if read_estimator(path) is None:
        check_adapter(path, "UNet2DConditionModel", "train_depth_image.py", flag, kind="an adapter")


def check_depth_adapter(path: str, flag: str) -> None:
    """Refuses what `check_image_adapter` does, and what says that it is of another condition than depth."""
    check_image_adapter(path, flag)
    joint = patch.read_config(path).get("training") if len(joint_names(path)) == 1 else None
    condition = (read_estimator(path) or joint or {}).get("condition", "depth")
    if condition != "depth":
        raise ValueError(f"{flag} {path} is of the condition {condition}: pass an adapter of depth.".strip())


def own_name(path: str, flag: str) -> str:
    """The name of the only adapter in a file or folder."""
    if estimator := read_estimator(path):
        return estimator["condition"]
    if (held := joint_names(path)) and read_estimator(Path(path) / LORA_FILE):
        raise ValueError(f"{flag} {path} holds {', '.join(held)} and {LORA_FILE}: pass the file of one.")
    if len(held) > 1:
        others = f"NAME={path}, NAME {' or '.join(held)}"
        raise ValueError(f"{flag} {path} holds several adapters: pass the file of one, or {others}.")
    name = patch.read_config(path)["name"]
    if name is None:
        raise ValueError(f"The adapter in {path} has no name of its own: pass {flag} NAME={path}.")
    return name


def read_conditions(files: Mapping[str, str], adapters: Mapping[str, str], kind: str | None) -> dict[str, np.ndarray]:
    """The condition of each name, as its adapter was trained: `read_condition`.

    Raises:
        ValueError: There is no adapter of a name, or a file cannot be read.
    """
    if unknown := sorted(files.keys() - adapters.keys()):
        raise ValueError(f"--condition {unknown[0]} has no adapter of that name: --adapter has {', '.join(adapters)}.")
    return {name: read_condition(path, kind, has_colors(adapters[name])) for name, path in files.items()}


def has_colors(adapter: str | Path) -> bool:
    """Whether an adapter was trained on a condition with colours."""
    condition = (patch.read_config(adapter).get("training") or {}).get("condition")
    return condition is not None and condition not in GRAY


def check_objective(adapters: Mapping[str, str], mode: str) -> None:
    """Raises ValueError where adapters and the mode of a command do not go together, before anything is loaded."""
    if mode == ONE_STEP and len(adapters) > 1:
        names = ", ".join(adapters)
        raise ValueError(f"--mode {ONE_STEP} estimates one condition, but --adapter has {names}: pass one.")
    for path in adapters.values() if mode != ONE_STEP else ():
        check_samples(path, "--adapter", f"pass --mode {ONE_STEP}")


def check_samples(adapter: str | Path, flag: str, remedy: str = "pass another one") -> None:
    """Raises ValueError for an adapter that was trained to estimate in one step, and samples nothing.

    Args:
        remedy: What the user can do.
    """
    if read_estimator(adapter):
        said = f"{flag} {adapter}".strip()
        raise ValueError(f"{said} was trained for estimation in one step and samples nothing: {remedy}.")


def load_joint(
    base: str,
    adapters: Mapping[str, str],
    trigger_word: str | None = None,
    scheduler: str | None = None,
    device: str | None = None,
    dtype: str = "float32",
    flag: str = "",
) -> StableDiffusionJointPipeline:
    """The pipeline of a base and of adapters, by name.

    Args:
        trigger_word: In place of those in the adapters' files.
        scheduler: Class in diffusers, in place of the model's own.
        flag: By which the user passed the base, for errors.
    """
    pipe = load_pipeline(StableDiffusionJointPipeline, base, dtype, flag)
    if scheduler:
        pipe.scheduler = find_scheduler(scheduler).from_config(pipe.scheduler.config)
    for name, path in adapters.items():
        pipe.load_adapter_pair(path, name, trigger_word)
    return pipe.to(choose_device(device))


def read_condition(path: str, kind: str | None, colored: bool = False) -> np.ndarray:
    """Normalised disparity, float32 (H, W) in [-1, 1], of a depth image.

    With `colored` the colours of any image, (3, H, W): what `train_depth_image.py` pairs by a name of your own.
    """
    if colored:
        return to_pixels(read_image(path)).numpy()
    kind = settle_kind(path, kind, "disparity", "if it holds millimetres, pass --depth_kind metres")
    return normalize_disparity(read_disparity(path, kind))


def fit_inputs(
    pipe,
    image: Image.Image | None,
    conditions: Mapping[str, np.ndarray],
    height: int | None = None,
    width: int | None = None,
    names: Mapping[str | None, str] | None = None,
) -> tuple[Image.Image | None, dict[str, np.ndarray]]:
    """Image and conditions at one size that the model takes: that of the image, or else of the first condition.

    Args:
        names: What messages call the image, under None, and each condition.
    """
    names = names or {}
    pixels = {} if image is None else {None: to_pixels(image)}
    pixels |= {name: _as_channels(values) for name, values in conditions.items()}
    if not pixels:
        return None, {}
    size = target_size(pipe, height, width, next(iter(pixels.values())).shape[-2:])
    fitted = {key: fit_pixels(pipe, one, *size, names.get(key) or str(key)) for key, one in pixels.items()}
    return (
        None if image is None else to_image(fitted.pop(None)),
        {name: (one[0] if len(one) == 1 else one).numpy() for name, one in fitted.items()},
    )


def _as_channels(values: np.ndarray) -> torch.Tensor:
    """(C, H, W) of an array (H, W) or (3, H, W)."""
    pixels = torch.from_numpy(values)
    return pixels[None] if pixels.ndim == 2 else pixels


def sample_pairs(
    pipe: StableDiffusionJointPipeline,
    image: Image.Image | None = None,
    conditions: Mapping[str, np.ndarray] | None = None,
    strength: float | None = None,
    condition_strength: float | None = None,
    **options,
) -> JointOutput:
    """Images with their conditions.

    Args:
        image, conditions: What is given, all of one size.
        strength: Share of the noise at which the image starts; None: it stays as it is.
        condition_strength: The same of the conditions; None: `strength`.
        options: Further arguments of the pipeline; its height and width where nothing is given.
    """
    conditions = dict(conditions or {})
    if image is not None or conditions:
        options = {name: value for name, value in options.items() if name not in ("height", "width")}
    if image is not None:
        options |= {"image": image} | ({} if strength is None else {"strength": strength})
    if conditions:
        share = strength if condition_strength is None else condition_strength
        strengths = None if share is None else dict.fromkeys(conditions, share)
        options |= {"condition": conditions, "condition_strength": strengths}
    return pipe(**options)


def write_pairs(folder: str | Path, out: JointOutput) -> list[Path]:
    """For each pair the image, each condition in colours (depth and edges in 16 bits, too), and all side by side.

    Returns the files.
    """
    folder, written = Path(folder), []
    for i, image in enumerate(out.images):
        row = [image]
        written += [write_png(folder / f"{i:02}_image.png", image)]
        for name, values in out.values.items():
            row += [color_disparity(values[i]) if name == "depth" else out.conditions[name][i]]
            written += [write_png(folder / f"{i:02}_{name}.png", row[-1])]
            if name in GRAY:
                written += [folder / f"{i:02}_{name}_16bit.png"]
                write_disparity(written[-1], values[i])
        written += [write_png(folder / f"{i:02}_side_by_side.png", side_by_side(row))]
    return written


def side_by_side(images: Sequence[Image.Image]) -> Image.Image:
    """Images of one height in a row."""
    return Image.fromarray(np.concatenate([np.asarray(image.convert("RGB")) for image in images], axis=1))
