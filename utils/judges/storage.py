"""Judges on disk: one safetensors file whose header says how to build the network."""

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from utils.files import replacing
from utils.judges.networks import AttributeJudge, DepthJudge
from utils.judges.video import VideoJudge

JUDGES = {"depth": DepthJudge, "attributes": AttributeJudge, "video": VideoJudge}


def save_judge(path: str | Path, judge: nn.Module, **training) -> None:
    """Write a judge with facts of its training (anything that JSON holds)."""
    kind = next(kind for kind, network in JUDGES.items() if type(judge) is network)
    header = {"judge": kind, "config": json.dumps(judge.config), "training": json.dumps(training)}
    weights = {name: weight.detach().cpu().contiguous() for name, weight in judge.state_dict().items()}
    with replacing(path) as temporary:
        save_file(weights, temporary, header)


def load_judge(path: str | Path, kind: str | None = None, device: str | torch.device = "cpu") -> nn.Module:
    """Read a judge, in evaluation mode.

    Args:
        path: A file of `save_judge`.
        kind: "depth", "attributes" or "video", if it has to be one of them.
        device: Where to put it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds no judge, or one of another kind.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no judge {path}; train one with train_models/train_judges.py.")
    with safe_open(path, "pt") as file:
        header = file.metadata() or {}
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no dict
    found = header.get("judge")
    if found not in JUDGES or kind not in (None, found):
        raise ValueError(f"{path} holds {found or 'no judge'} where {kind or ' or '.join(JUDGES)} is expected.")
    judge = JUDGES[found](**json.loads(header["config"]))
    judge.load_state_dict(weights)
    return judge.to(device).eval().requires_grad_(False)
