"""Weights of noise levels."""

import pytest
import torch
from diffusers import DDPMScheduler

from utils.diffusion.noise import min_snr_weight


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_min_snr_weights_follow_the_formula(kind):
    scheduler = DDPMScheduler(prediction_type=kind)
    t = torch.tensor([1, 300, 999])
    alpha = scheduler.alphas_cumprod[t]
    snr = alpha / (1 - alpha)
    smaller = torch.minimum(snr, torch.tensor(5.0))
    expected = smaller / snr if kind == "epsilon" else smaller / (snr + 1)
    assert torch.allclose(min_snr_weight(scheduler, t, 5.0), expected)
    assert torch.equal(min_snr_weight(scheduler, t, 0), torch.ones(3))


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_the_weight_is_finite_where_nothing_of_the_signal_is_left(kind):
    scheduler = DDPMScheduler(prediction_type=kind, rescale_betas_zero_snr=True)
    scheduler.alphas_cumprod[-1] = 0
    assert min_snr_weight(scheduler, torch.tensor([999]), 5.0).isfinite().all()
