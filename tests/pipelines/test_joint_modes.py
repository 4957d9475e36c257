"""What each mode promises."""

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

import patch

STEPS = 3


def draw(pipe, *args, seed=0, **kwargs):
    kwargs = {"num_inference_steps": STEPS, "guidance_scale": 3.0, "output_type": "pt"} | kwargs
    kwargs.setdefault("generator", torch.Generator().manual_seed(seed))
    return pipe(*args, **kwargs)


def picture(seed=0, size=32, channels=3):
    values = np.random.default_rng(seed).integers(0, 256, (size, size, channels), dtype=np.uint8)
    return Image.fromarray(values if channels == 3 else values[..., 0])


def test_joint_draws_an_image_and_its_condition(pipe):
    out = pipe("a cube", num_inference_steps=2, num_images_per_prompt=2)
    assert [image.size for image in out.images] == [(32, 32)] * 2
    assert [image.size for image in out.conditions["depth"]] == [(32, 32)] * 2
    assert out.values["depth"].shape == (2, 32, 32)
    assert out.values["depth"].dtype == np.float32
    assert np.abs(out.values["depth"]).max() <= 1
