"""TRIP around the UNet of Stable Video Diffusion: its inputs, and that it stays as it was."""

import pytest
import torch

from models.trip import FORMS, TripFusion
from models.trip_unet import TripCondition, TripDenoiser, TripUNet
from tests.models.unet_spy import UNetSpy as Spy
from utils.diffusion.edm import EDM
from utils.diffusion.svd_condition import Condition

B, F, C, SIDE = 2, 3, 4, 8
SIGMA = torch.tensor([0.5, 6.0])


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def x_t():
    return random(B, F, C, SIDE, SIDE)


@pytest.fixture
def condition():
    plain = Condition(
        random(B, 1, 16, seed=1), random(B, 1, C, SIDE, SIDE, seed=2).repeat(1, F, 1, 1, 1), random(B, 3, seed=3)
    )
    return TripCondition.of(plain, random(B, 1, C, SIDE, SIDE, seed=4))


@pytest.mark.parametrize("form", FORMS)
def test_the_clean_first_frame_stands_in_its_place_and_its_output_is_dropped(tiny_svd, x_t, condition, form):
    spy, place = Spy(tiny_svd.unet), FORMS[form].place
    v = TripUNet(tiny_svd.unet, TripFusion(form))(x_t, SIGMA, condition)
    assert v.shape == x_t.shape
    frames = spy.inputs.unflatten(0, (B, -1))[:, :, :C]
    assert frames.shape[1] == F + (place is not None)
    if place:
        index, others = (0, slice(1, None)) if place == "front" else (F, slice(F))
        assert torch.equal(frames[:, index], condition.first[:, 0])  # not scaled: c_in is 1
        frames = frames[:, others]
    torch.testing.assert_close(frames, EDM().scale_input(x_t, SIGMA))


@pytest.mark.parametrize("form", ["front", "residual"])
def test_the_channels_have_the_image_or_nothing(tiny_svd, x_t, condition, form):
    spy = Spy(tiny_svd.unet)
    TripUNet(tiny_svd.unet, TripFusion(form))(x_t, SIGMA, condition)
    beside = spy.inputs.unflatten(0, (B, F + 1))[:, :, C:]
    image = condition.image_latents[:, :1].expand(-1, F + 1, -1, -1, -1)
    assert torch.equal(beside, image * FORMS[form].channels)


@pytest.mark.parametrize(("form", "index"), [("front", 0), ("end", F)])
def test_the_clean_first_frame_has_a_noise_level_of_its_own(tiny_svd, x_t, condition, form, index):
    """In every block: that of the smallest sigma, while the noisy frames have theirs."""
    unet = tiny_svd.unet
    spy = Spy(unet)
    TripUNet(unet, TripFusion(form))(x_t, SIGMA, condition)
    assert len(spy.embeddings) > 4
    added = unet.add_embedding(unet.add_time_proj(condition.time_ids.flatten()).reshape(B, -1))
    clean, noisy = (unet.time_embedding(unet.time_proj(EDM().timestep(s))) + added for s in (SIGMA * 0, SIGMA))
    assert (clean - noisy).abs().max() > 1e-3
    for rows in spy.embeddings:
        rows = rows.unflatten(0, (B, F + 1))
        for frame in range(F + 1):
            torch.testing.assert_close(rows[:, frame], clean if frame == index else noisy, atol=1e-5, rtol=1e-4)


def test_a_form_without_time_is_stable_video_diffusion(tiny_svd, x_t, condition):
    inputs = torch.cat([EDM().scale_input(x_t, SIGMA), condition.image_latents], dim=2)
    others = EDM().timestep(SIGMA), condition.image_embeddings, condition.time_ids
    expected = tiny_svd.unet(inputs, *others).sample
    assert torch.equal(TripUNet(tiny_svd.unet, TripFusion("channels"))(x_t, SIGMA, condition), expected)


def test_without_the_wrapper_the_unet_is_the_base(tiny_svd, x_t, condition):
    unet, inputs = tiny_svd.unet, (random(B, F, 2 * C, SIDE, SIDE), random(B), random(B, 1, 16), random(B, 3))
    expected, keys, attributes = unet(*inputs).sample, list(unet.state_dict()), set(vars(unet))
    TripUNet(unet, TripFusion())(x_t, SIGMA, condition)
    assert torch.equal(unet(*inputs).sample, expected)
    assert list(unet.state_dict()) == keys and set(vars(unet)) == attributes
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in unet.modules())


def test_an_error_leaves_the_unet_without_hooks(tiny_svd, x_t, condition):
    with pytest.raises(RuntimeError):
        TripUNet(tiny_svd.unet, TripFusion())(x_t[..., :1], SIGMA, condition)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in tiny_svd.unet.modules())


def test_the_denoisers_error_on_the_first_frame_is_zero_with_the_prior(tiny_svd, condition):
    """Its loss counts the other frames alone: v of frame 1 is exact."""
    x_0 = torch.cat([condition.first, random(B, F - 1, C, SIDE, SIDE, seed=7)], dim=1)
    noise, edm = random(*x_0.shape, seed=8), EDM()
    x_t = edm.add_noise(x_0, noise, SIGMA)
    denoiser = TripDenoiser(TripUNet(tiny_svd.unet, TripFusion()), edm)
    v = denoiser.predict(x_t, SIGMA, condition)
    torch.testing.assert_close(v[:, 0], edm.velocity(x_0, noise, SIGMA)[:, 0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(denoiser.denoise(x_t, SIGMA, condition)[:, 0], x_0[:, 0], atol=1e-4, rtol=1e-4)
    error = denoiser.loss(x_0, noise, SIGMA, condition)
    expected = (v - edm.velocity(x_0, noise, SIGMA))[:, 1:].square().flatten(1).sum(dim=1) / x_0[0].numel()
    torch.testing.assert_close(error, expected, atol=1e-5, rtol=1e-4)


def test_dropping_the_image_keeps_the_first_frame(condition):
    dropped = condition.drop(torch.tensor([True, False]))
    assert torch.equal(dropped.first, condition.first) and not dropped.image_embeddings[0].any()
    both = condition.with_unconditional()
    assert torch.equal(both.first, condition.first.repeat(2, 1, 1, 1, 1)) and isinstance(both, TripCondition)
    assert torch.equal(condition.take([1]).first, condition.first[1:])


@pytest.mark.parametrize("form", ["end", "fusion"])
def test_gradients_are_the_same_under_checkpointing(tiny_svd, x_t, condition, form):
    model = TripUNet(tiny_svd.unet, TripFusion(form, width=16, heads=2)).requires_grad_(True).train()

    def gradients():
        return torch.autograd.grad(
            model(x_t, SIGMA, condition).square().sum(), list(model.parameters()), allow_unused=True
        )

    plain = gradients()
    tiny_svd.unet.enable_gradient_checkpointing()
    for a, b in zip(plain, gradients(), strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
