"""Pretrained models by the name of a folder or of a repository on the hub, and where they run."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import torch
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError

from utils.arguments import REPOSITORY
from utils.commands.argument_groups import DTYPE_NAMES
from utils.processes import process_state
from utils.weights.model_kinds import check_network, check_pipeline, describe

DTYPES = {name: getattr(torch, name) for name in DTYPE_NAMES}
Pipeline = TypeVar("Pipeline")


@contextlib.contextmanager
def loading(name: str | Path, needed: type | tuple[type, ...] | None = None, flag: str = "") -> Iterator[None]:
    """Within it a model is loaded from the folder or hub name.

    Args:
        needed: The class of the network or pipeline that is loaded from it, or several of networks; another kind of
            folder is refused first.
        flag: What the user passed the name by, for the sentence.

    Raises:
        FileNotFoundError: There is no such folder and no such name on the hub; in one sentence in place of the
            libraries' many.
        ValueError: The folder holds another kind of model, or files that cannot be read.
    """
    if needed is not None:
        check_kind(name, needed, flag)
    missing = f"{flag} {name} is neither a model folder nor one on the hub that can be reached.".lstrip()
    if not Path(name).exists() and str(name).count("/") != 1:
        raise FileNotFoundError(missing)
    try:
        yield
    except (OSError, HFValidationError, SafetensorError, EOFError) as error:
        if not Path(name).exists():
            raise FileNotFoundError(missing) from error
        reason = " ".join(str(error).split()).rstrip(".")
        raise ValueError(f"{name} is {describe(name)} and cannot be loaded here: {reason}.") from error


def check_kind(name: str | Path, needed: type | tuple[type, ...], flag: str = "") -> None:
    """Raises ValueError where `name` holds something else than a model of this class of networks or pipelines."""
    from diffusers import DiffusionPipeline

    pipeline = isinstance(needed, type) and issubclass(needed, DiffusionPipeline)
    (check_pipeline if pipeline else check_network)(name, needed, flag)


def load_pipeline(
    cls: type[Pipeline], name: str | Path, dtype: str | torch.dtype = "float32", flag: str = "", **options
) -> Pipeline:
    """A pipeline of a folder or hub name, on the CPU.

    `pipe.to(choose_device())` is left to the caller, who may load adapters first. With bfloat16 the
    autoencoder of a class with FLOAT32_VAE is float32: videos flicker where each layer of a decoder rounds to 8 bits.

    Args:
        cls: A subclass of `StableDiffusionPipeline` or `StableVideoDiffusionPipeline`.
        dtype: Of the weights: a key of `DTYPES`, or the type itself.
        flag: What the user passed the name by, for the sentence.
        options: Further ones of `from_pretrained`.

    Raises:
        FileNotFoundError, ValueError: As `loading`.
    """
    with loading(name, cls, flag):
        dtype = DTYPES.get(dtype, dtype)
        if dtype == torch.bfloat16 and getattr(cls, "FLOAT32_VAE", False):
            dtype = {"default": dtype, "vae": torch.float32}
        return cls.from_pretrained(name, dtype=dtype, **options)


def choose_device(device: str | None = None) -> torch.device:
    """The device of `--device`: the named one, by default that which Accelerate gives to this process.

    Raises:
        ValueError: Tensors cannot be made on it.
    """
    if device is None:
        return process_state().device
    check_device(device)
    return torch.device(device)


def check_device(device: str) -> None:
    """Raise a ValueError unless tensors can be made on the device of `--device`."""
    try:
        torch.zeros(1, device=device).tolist()  # some devices make tensors that cannot be read
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"--device {device} is not available here: take cpu, say.") from error


def shipped(name: str) -> str:
    """The folder or file of weights that come with the project, wherever a command is run from."""
    return str(REPOSITORY / "weights" / name)


def find_scheduler(name: str) -> type:
    """The scheduler of diffusers that is called so, with or without "Scheduler" at the end.

    Raises:
        ValueError: There is none, or it needs a package that is missing.
    """
    import diffusers

    found = getattr(diffusers, name, None) or getattr(diffusers, f"{name}Scheduler", None)
    if missing := [package for package in getattr(found, "_backends", []) if package != "torch"]:
        raise ValueError(f"--scheduler {name} needs {missing[0]}: pip install {missing[0]}.")
    if not (isinstance(found, type) and issubclass(found, diffusers.SchedulerMixin)):
        raise ValueError(
            f"--scheduler {name}: diffusers has no scheduler {name}; pass DDIMScheduler or UniPCMultistepScheduler, "
            "say."
        )
    return found
