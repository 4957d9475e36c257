"""Checkpoints, published ones and our own, to a network that is ready to run."""

import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from .configurations import CONFIGURATIONS
from .unimatch import UniMatch

# What torch and safetensors raise for files that are something else, or cut short.
READING_ERRORS = (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, LookupError, ValueError)


def load_unimatch(
    path: str | Path,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> UniMatch:
    """Build the network that a checkpoint was made with, in evaluation mode, and fill it.

    Args:
        path: A published `.pth` (weights under "model"), or a `.safetensors` of the same keys.
        device: Where to; None leaves the weights on the CPU.
        dtype: Type of the weights; None keeps float32.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read, or holds other weights than those of UniMatch for flow.
    """
    weights = read_weights(path)
    configuration = CONFIGURATIONS[guess_configuration(weights)]
    model = UniMatch(
        num_scales=configuration.num_scales,
        upsample_factor=configuration.upsample_factor,
        reg_refine=configuration.reg_refine,
    )
    _check_keys(path, weights, model.state_dict())
    model.load_state_dict(weights)
    return model.eval().requires_grad_(False).to(device=device, dtype=dtype)


def guess_configuration(weights: dict[str, torch.Tensor]) -> str:
    """The name in `CONFIGURATIONS` that the keys of a state dict belong to."""
    if "refine_proj.weight" in weights:
        return "scale2_regrefine6"
    return "scale2" if "backbone.trident_conv.weight" in weights else "scale1"


def read_weights(path: str | Path) -> dict[str, torch.Tensor]:
    """The state dict in a file; only tensors are unpickled.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read as a checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint {path}.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except READING_ERRORS as error:
        raise ValueError(
            f"{path} cannot be read as a checkpoint of UniMatch: pass a file of tensors by torch.save or safetensors."
        ) from error
    content = content.get("model", content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise ValueError(f'{path} holds no state dict, neither at its top nor under "model".')
    return content


def _check_keys(path, weights: dict, expected: dict) -> None:
    """One sentence about the first key that differs."""
    for key in expected.keys() - weights.keys():
        raise ValueError(f"{path} is no checkpoint of UniMatch for flow: it lacks {key}.")
    for key in weights.keys() - expected.keys():
        raise ValueError(f"{path} is no checkpoint of UniMatch for flow: it has {key}, which this network lacks.")
    for key, value in expected.items():
        if weights[key].shape != value.shape:
            raise ValueError(
                f"{path} is no checkpoint of UniMatch for flow: {key} is {tuple(weights[key].shape)}, "
                f"not {tuple(value.shape)}."
            )
