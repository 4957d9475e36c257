"""TRIP at the size of released models with random weights: shapes; `pytest -m slow -s` prints memory and time."""

import resource
import time

import pytest
import torch
from diffusers import UNet3DConditionModel, UNetSpatioTemporalConditionModel

from models.trip import TripFusion, noise_prior_ddpm
from models.trip_text import TripTextUNet
from models.trip_unet import TripCondition, TripUNet
from utils.diffusion.svd_condition import Condition

B, F, C, SIDE = 1, 2, 4, 16
DTYPE = torch.bfloat16


def build(kind):
    """A network of the class's default size, which is that of the released one, with small random weights."""
    with torch.device("meta"):
        unet = kind()
    unet = unet.to(DTYPE).to_empty(device="cpu").eval().requires_grad_(False)
    for parameter in unet.parameters():
        parameter.uniform_(-0.02, 0.02)
    return unet


def report(name, unet, fusion, run):
    started = time.perf_counter()
    with torch.no_grad():
        found = run()
    seconds, counts = time.perf_counter() - started, [sum(p.numel() for p in m.parameters()) for m in (unet, fusion)]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\n{name}: {counts[0]:,} parameters, fusion {counts[1]:,}; {seconds:.1f} s, peak {memory:.1f} GiB")
    return found


@pytest.mark.slow
def test_a_text_unet_of_the_size_of_modelscope():
    unet, fusion = build(UNet3DConditionModel), TripFusion()
    z_t, first, timestep = torch.randn(B, F, C, SIDE, SIDE), torch.randn(B, 1, C, SIDE, SIDE), torch.tensor([500])
    alpha_bar, prompt_embeds = torch.tensor([0.3]), torch.randn(B, 77, 1024, dtype=DTYPE)
    model = TripTextUNet(unet, fusion)
    noise = report("UNet3DConditionModel", unet, fusion, lambda: model(z_t, timestep, alpha_bar, prompt_embeds, first))
    assert noise.shape == z_t.shape and noise.isfinite().all()
    torch.testing.assert_close(noise[:, 0], noise_prior_ddpm(z_t, first, alpha_bar)[:, 0], atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_the_unet_of_stable_video_diffusion():
    unet, fusion = build(UNetSpatioTemporalConditionModel), TripFusion()
    x_t, image = 2 * torch.randn(B, F, C, SIDE, SIDE), torch.randn(B, 1, C, SIDE, SIDE)
    embeddings, ids = torch.randn(B, 1, 1024, dtype=DTYPE), torch.tensor([[6.0, 127.0, 0.02]], dtype=DTYPE)
    condition = TripCondition.of(Condition(embeddings, image.repeat(1, F, 1, 1, 1), ids), image)
    model = TripUNet(unet, fusion)
    v = report("UNetSpatioTemporalConditionModel", unet, fusion, lambda: model(x_t, torch.tensor([2.0]), condition))
    assert v.shape == x_t.shape and v.isfinite().all()
