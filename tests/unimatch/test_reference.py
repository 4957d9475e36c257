"""Keys and outputs of the published network.

With weights drawn at random the network is nearly chaotic: float32 rounding alone, such as another number of threads,
moves single vectors by 0.01 px and, with the two scales, by 0.04 px. So the mean has to agree to 1e-3 px, and the worst
pixel to what rounding explains.
"""

import json

import numpy as np
import pytest
import torch

from benchmarks.seeded_unimatch import make_model
from unimatch import CONFIGURATIONS, estimate_flow


@pytest.fixture
def golden(shared_reference):
    return np.load(shared_reference / "unimatch" / "golden.npz")


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_keys_and_shapes_are_the_published_ones(shared_reference, name):
    published = json.loads((shared_reference / "unimatch" / "state_dict_keys.json").read_text())[name]
    ours = {key: list(value.shape) for key, value in make_model(name).state_dict().items()}
    assert ours == {key: list(shape) for key, shape in published.items()}


@pytest.mark.parametrize("name", ["scale1", "scale2_regrefine6"])
def test_flow_is_that_of_the_published_code(golden, name):
    images = [torch.from_numpy(golden[key]).permute(2, 0, 1)[None] for key in ("img0", "img1")]
    error = np.linalg.norm(estimate_flow(make_model(name), *images).numpy() - golden[name], axis=1)
    assert error.mean() < 1.5e-3
    assert np.median(error) < 1e-3
    assert error.max() < 0.05
