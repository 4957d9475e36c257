"""TRIP around UNets of Stable Video Diffusion and of text to video: their inputs, and that they stay as they were."""

import pytest
import torch
from diffusers import DDPMScheduler, UNet3DConditionModel

from models.trip import FORMS, TripFusion, frame_weights, fuse_linearly, noise_prior_ddpm
from models.trip_unet import TripCondition, TripDenoiser, TripTextUNet, TripUNet
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


@pytest.fixture(scope="module")
def text_unet():
    torch.manual_seed(0)
    unet = UNet3DConditionModel(
        block_out_channels=(32, 32), layers_per_block=1, cross_attention_dim=16, attention_head_dim=8,
        norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"), up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
    )  # fmt: skip
    for name, parameter in unet.named_parameters():  # parts over time start at zero
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
        assert parameter.any(), name
    return unet.eval().requires_grad_(False)


@pytest.fixture
def text_inputs():
    """z_t, timesteps, ᾱ, text and the first frame."""
    timestep = torch.tensor([50, 700])
    alpha_bar = DDPMScheduler().alphas_cumprod[timestep]
    return (
        random(B, F, C, SIDE, SIDE),
        timestep,
        alpha_bar,
        random(B, 5, 16, seed=1),
        random(B, 1, C, SIDE, SIDE, seed=2),
    )


class Spy:
    """Keeps what the first convolution of a UNet and its blocks are given."""

    def __init__(self, unet):
        self.embeddings = []
        unet.conv_in.register_forward_pre_hook(lambda module, args: setattr(self, "inputs", args[0]))
        for block in (*unet.down_blocks, unet.mid_block, *unet.up_blocks):
            for resnet in block.resnets:
                resnet.register_forward_pre_hook(lambda module, args: self.embeddings.append(args[1]))


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


def test_noise_of_a_text_unet_on_the_first_frame_is_the_prior(text_unet, text_inputs):
    z_t, _, alpha_bar, _, first = text_inputs
    noise = TripTextUNet(text_unet, TripFusion())(*text_inputs)
    torch.testing.assert_close(noise[:, 0], noise_prior_ddpm(z_t, first, alpha_bar)[:, 0], atol=1e-4, rtol=1e-4)


def test_a_text_unet_starts_with_the_linear_form_of_noises(text_unet, text_inputs):
    z_t, timestep, alpha_bar, prompt_embeds, first = text_inputs
    model = TripTextUNet(text_unet, TripFusion())
    residual = model.predict_residual(z_t, timestep, prompt_embeds, first)
    expected = fuse_linearly(noise_prior_ddpm(z_t, first, alpha_bar), residual, frame_weights(F))
    torch.testing.assert_close(model(*text_inputs), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("part", range(5))
def test_a_text_unet_reads_all_that_it_is_given(text_unet, text_inputs, part):
    """Its text above all."""
    model, inputs = TripTextUNet(text_unet, TripFusion()), list(text_inputs)
    plain = model(*inputs)
    inputs[part] = inputs[part].flip(0)
    assert (model(*inputs) - plain)[:, 1:].abs().max() > 1e-3


def test_the_clean_first_frame_of_a_text_unet_has_a_timestep_of_its_own(text_unet, text_inputs):
    _, timestep, _, _, first = text_inputs
    spy = Spy(text_unet)
    TripTextUNet(text_unet, TripFusion())(*text_inputs)
    assert torch.equal(spy.inputs.unflatten(0, (B, F + 1))[:, 0], first[:, 0])
    clean, noisy = (text_unet.time_embedding(text_unet.time_proj(t)) for t in (timestep * 0, timestep))
    for rows in spy.embeddings:
        rows = rows.unflatten(0, (B, F + 1))
        torch.testing.assert_close(rows[:, 0], clean, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(rows[:, 1:], noisy[:, None].expand(-1, F, -1), atol=1e-5, rtol=1e-4)


def test_without_the_wrapper_a_text_unet_is_the_base(text_unet, text_inputs):
    z_t, timestep, _, prompt_embeds, _ = text_inputs
    expected = text_unet(z_t.transpose(1, 2), timestep, prompt_embeds).sample
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in text_unet.modules()]
    TripTextUNet(text_unet, TripFusion())(*text_inputs)
    assert torch.equal(text_unet(z_t.transpose(1, 2), timestep, prompt_embeds).sample, expected)
    assert [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in text_unet.modules()] == hooks
