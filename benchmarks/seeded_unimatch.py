"""UniMatch networks with random weights seeded by the names of their parameters, as in the reference figures."""

import zlib

import numpy as np
import torch

from unimatch import CONFIGURATIONS, UniMatch


def seeded(key: str, shape: torch.Size) -> torch.Tensor:
    """Values that depend on the name of a parameter alone."""
    generator = torch.Generator().manual_seed(zlib.crc32(key.encode()))
    values = torch.randn(shape, generator=generator)
    if len(shape) > 1:
        return values / np.prod(shape[1:]) ** 0.5
    return 1 + 0.1 * values if key.endswith("weight") else 0.1 * values


def make_model(name: str) -> UniMatch:
    """The network of an entry of `CONFIGURATIONS`, ready to run, with such weights."""
    configuration = CONFIGURATIONS[name]
    model = UniMatch(
        num_scales=configuration.num_scales,
        upsample_factor=configuration.upsample_factor,
        reg_refine=configuration.reg_refine,
    )
    model.load_state_dict({key: seeded(key, value.shape) for key, value in model.state_dict().items()})
    return model.eval().requires_grad_(False)
