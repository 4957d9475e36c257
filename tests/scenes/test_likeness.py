"""Photographs are distinguished from renderings of the world, and from samples of models that learned it."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from utils.images import read_image, to_pixels
from utils.pretrained import shipped
from utils.scenes import render, render_clip, sample_clip, sample_scene
from utils.scenes.likeness import looks_rendered
from utils.weights.embedded import is_embedded, warn_of_photograph

SEEDS = range(3_000_000, 3_000_012)
PHOTOGRAPHS = (
    "bench_dog.png",
    "davis_0.jpg",
    "svd_test_image.png",
    "traj28_img.png",
    "rubberwhale_frame10.png",
    "tiny_0.png",
)


@pytest.mark.parametrize("size", [64, 100])
def test_scenes_of_any_size_are_known(size):
    assert all(looks_rendered(to_pixels(Image.fromarray(render(sample_scene(seed), size).image))) for seed in SEEDS)


def test_frames_of_clips_are_known_also_as_jpeg():
    for seed in SEEDS[:6]:
        frame = Image.fromarray(render_clip(sample_clip(seed, 2), 64).video[1])
        file = io.BytesIO()
        frame.save(file, "JPEG")
        assert looks_rendered(to_pixels(frame)) and looks_rendered(to_pixels(Image.open(file)))


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_photographs_are_not_also_when_they_are_small(shared_media, name):
    image = read_image(shared_media / name)
    assert not looks_rendered(to_pixels(image))
    assert not looks_rendered(to_pixels(image.resize((64, 64))))


def test_only_the_small_bases_warn_and_only_once(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("utils.messages.notices._said", set())
    noise = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (3, 64, 64)))
    assert is_embedded(shipped("tiny_svd")) and not is_embedded(tmp_path) and not is_embedded("a/tiny_svd")
    warn_of_photograph(tmp_path, noise, "a.png", "--model_dir")
    assert capsys.readouterr().err == ""
    for name in ("a.png", "b.png"):
        warn_of_photograph(shipped("tiny_svd"), noise, name, "--model_dir")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("a.png does not look like the procedural world")
    assert "--model_dir stabilityai/stable-video-diffusion-img2vid-xt" in line
