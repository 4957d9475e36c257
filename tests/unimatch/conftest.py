import pytest
import torch

from benchmarks.seeded_unimatch import make_model
from unimatch import CONFIGURATIONS


@pytest.fixture(scope="session", params=CONFIGURATIONS)
def model(request):
    return make_model(request.param)


@pytest.fixture(scope="session")
def scale1():
    return make_model("scale1")


@pytest.fixture(scope="session")
def images():
    """Two images of smooth noise, the second shifted, (1, 3, 64, 96) in [0, 255]."""
    coarse = torch.rand(1, 3, 12, 16, generator=torch.Generator().manual_seed(0)) * 255
    picture = torch.nn.functional.interpolate(coarse, (64, 100), mode="bicubic").clamp(0, 255)
    return picture[..., 4:], picture[..., :-4]
