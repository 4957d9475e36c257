"""What the tests of the joint image pipeline sample, and from what."""

import numpy as np
import torch
from PIL import Image


def sample(pipe, prompt="a cube", seed=0, **kwargs):
    defaults = {"num_inference_steps": 3, "guidance_scale": 3.0, "output_type": "pt"}
    kwargs.setdefault("generator", torch.Generator().manual_seed(seed))
    return pipe(prompt, **defaults | kwargs)


def make_image(seed=0, mode="RGB"):
    values = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


def disparity(seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (32, 32)).astype(np.float32)
