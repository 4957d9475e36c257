"""A small training run whose data, noise and weights tests compare."""

import argparse
import json
import random

import numpy as np
import pytest
import torch
from torch import nn

from utils.training.loop import add_training_arguments, fit

STEPS = ["--checkpointing_steps", 2, "--logging_steps", 1, "--validation_steps", 5]
LATEST = ["--resume_from_checkpoint", "latest"]


class Numbers:
    """Samples with random augmentation from all three generators."""

    def __len__(self):
        return 11

    def __getitem__(self, index):
        noise = torch.tensor([random.random(), np.random.rand(), torch.rand(()).item()])
        return {"index": index, "noise": noise, "value": torch.full((3,), index / 11)}


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.base = nn.Linear(3, 64)
        self.head = nn.Sequential(nn.Dropout(0.1), nn.Linear(64, 3))
        self.base.requires_grad_(False)

    def forward(self, x):
        return self.head(self.base(x))


def make_model():
    torch.manual_seed(0)
    return Model()


def make_args(folder, *flags):
    parser = argparse.ArgumentParser()
    add_training_arguments(parser, lr_warmup_steps=2, train_batch_size=2, max_train_steps=10, learning_rate=1e-2)
    return parser.parse_args(["--output_dir", str(folder), *map(str, flags)])


class Trial:
    """One call of fit, with all that the loss saw."""

    def __init__(self, folder, *flags, **options):
        self.model, self.seen, self.calls = make_model(), [], []
        self.args = make_args(folder, *flags)
        fit(self.args, self.model, Numbers(), self.loss, **options)

    def loss(self, model, batch):
        drawn = torch.randn(3)
        self.seen.append(torch.cat([batch["index"], batch["noise"].flatten(), drawn]))
        output = model(batch["value"] + batch["noise"] + drawn)
        return (output**2).mean(), {"mean": output.mean()}

    def weights(self):
        return torch.cat([p.flatten() for p in self.model.parameters()])


def interrupt(model, step):
    raise KeyboardInterrupt


def start(folder, *flags, **options):
    """A run of 10 steps that ends after 5, with checkpoints of steps 2 and 4."""
    with pytest.raises(KeyboardInterrupt):
        Trial(folder, *STEPS, *flags, validate=interrupt, **options)
    return folder


def lines(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def whole_and_resumed(folder, *flags):
    """A run, the same run that was stopped after 5 of 10 steps and resumed, and what each saves at its end."""
    saved = {}
    whole = Trial(folder / "whole", *flags, save=lambda model, place: saved.update(whole=averaged(model)))
    with pytest.raises(KeyboardInterrupt):
        Trial(folder / "cut", *flags, "--validation_steps", 5, validate=interrupt)
    flags = [*flags, "--resume_from_checkpoint", "latest"]
    resumed = Trial(folder / "cut", *flags, save=lambda model, place: saved.update(resumed=averaged(model)))
    return whole, resumed, saved


def averaged(model):
    return torch.cat([p.detach().flatten().clone() for p in model.parameters()])
