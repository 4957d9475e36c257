"""Losses and validation images: in files without a tracker, and with one there as well."""

import importlib.util
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from tests.training_trial import Trial


def draw(model, step):
    return {"noise": Image.fromarray(torch.full((4, 4), step, dtype=torch.uint8).numpy())}


def test_without_a_tracker_loss_and_images_are_png_files(tmp_path):
    Trial(tmp_path / "run", "--validation_steps", 5, validate=draw)
    assert Image.open(tmp_path / "run/loss.png").format == "PNG"
    assert Image.open(tmp_path / "run/validation/000005_noise.png").getpixel((0, 0)) == 5


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_tracker_gets_losses_and_images(tmp_path, monkeypatch, name):
    logged, images = [], []
    tracker = SimpleNamespace(
        name=name,
        log=lambda values, step, **more: logged.append((step, values)),
        log_images=lambda values, step: images.append((step, list(values))),
        writer=SimpleNamespace(add_image=lambda key, value, step, dataformats: images.append((step, [key]))),
        finish=lambda: None,
    )
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: package)
    monkeypatch.setattr(Accelerator, "init_trackers", lambda self, project: self.trackers.append(tracker))
    Trial(tmp_path / "run", "--report_to", name, "--validation_steps", 5, "--logging_steps", 5, validate=draw)
    assert [step for step, values in logged if "loss" in values] == [5, 10]
    assert images == [(5, ["noise"]), (10, ["noise"])]
    assert (tmp_path / "run/loss.png").is_file()
