"""The ControlNet of Stable Video Diffusion: where it starts, what it adds and to what, what it trains."""

from functools import partial

import pytest
import torch

from models.svd_controlnet import ControlledUNet, ControlNetSVD
from models.unet_residuals import Residuals, added_residuals

B, F, CHANNELS, FACTOR, SIDE = 2, 3, 5, 4, 8


@pytest.fixture
def unet(tiny_svd):
    return tiny_svd.unet


@pytest.fixture
def controlnet(unet):
    return ControlNetSVD.from_unet(unet, CHANNELS, FACTOR)


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(0)
    draw = partial(torch.randn, generator=generator)
    return draw(B, F, 8, SIDE, SIDE), draw(B), draw(B, 1, 16), draw(B, 3)


@pytest.fixture
def control():
    side = SIDE * FACTOR
    return torch.randn(B, F, CHANNELS, side, side, generator=torch.Generator().manual_seed(1))


def stir(controlnet):
    """Weights as of a trained one: what starts at zero no longer is."""
    generator = torch.Generator().manual_seed(2)
    for name, parameter in controlnet.named_parameters():
        if name.startswith("controlnet_"):
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return controlnet


def test_it_starts_without_changing_a_bit(unet, controlnet, inputs, control):
    expected = unet(*inputs).sample
    assert torch.equal(ControlledUNet(unet, controlnet)(*inputs, control=control).sample, expected)


def test_its_layers_start_as_copies_of_the_unets(unet, controlnet):
    own, weights = controlnet.state_dict(), unet.state_dict()
    shared = {name for name in own if not name.startswith("controlnet_")}
    halves = ("conv_in", "time_embedding", "add_embedding", "down_blocks", "mid_block")
    assert shared == {name for name in weights if name.startswith(halves)}
    assert all(torch.equal(own[name], weights[name]) for name in shared)
    controlnet.conv_in.weight.data.zero_()
    assert weights["conv_in.weight"].any()


def test_the_control_changes_the_prediction_and_the_unet_is_left_as_it_was(unet, controlnet, inputs, control):
    expected, keys = unet(*inputs).sample, list(unet.state_dict())
    model = ControlledUNet(unet, stir(controlnet))
    found = model(*inputs, control=control).sample
    assert (found - expected).abs().max() > 1e-3
    assert not torch.equal(model(*inputs, control=-control).sample, found)
    assert torch.equal(model(*inputs, control=control, conditioning_scale=0.0).sample, expected)
    assert torch.equal(unet(*inputs).sample, expected) and list(unet.state_dict()) == keys
    assert not any(block._forward_pre_hooks for block in unet.up_blocks)


def test_an_error_leaves_the_unet_as_it_was(unet, controlnet, inputs, control):
    residuals = controlnet(*inputs, control)
    with pytest.raises(RuntimeError), added_residuals(unet, residuals):
        raise RuntimeError
    assert not any(block._forward_pre_hooks for block in unet.up_blocks)


def test_each_residual_is_added_to_the_skip_of_its_block_and_the_last_to_the_middle(unet, inputs):
    states, skips, middles = [], [], []
    unet.conv_in.register_forward_hook(lambda m, i, output: states.append(output))
    for block in unet.down_blocks:
        block.register_forward_hook(lambda m, i, output: states.extend(output[1]))
    unet.mid_block.register_forward_hook(lambda m, i, output: middles.append(output))

    def keep(module, args):
        own = args[0].shape[1] - states[0].shape[1]
        skips.append(args[0][:, own:])
        middles.append(args[0][:, :own])

    for block in unet.up_blocks:
        for resnet in block.resnets:
            resnet.register_forward_pre_hook(keep)
    unet(*inputs)
    residuals = Residuals(tuple(torch.randn_like(state) for state in states), torch.randn_like(middles[0]))
    states.clear(), skips.clear(), middles.clear()
    with added_residuals(unet, residuals.scaled(2.0)):
        unet(*inputs)
    assert len(skips) == len(states)
    for skip, state, residual in zip(reversed(skips), states, residuals.down, strict=True):
        assert torch.equal(skip, state + 2 * residual)
    assert torch.equal(middles[1], middles[0] + 2 * residuals.mid)


def test_a_video_does_not_depend_on_the_others_of_its_batch(unet, controlnet, inputs, control):
    model = ControlledUNet(unet, stir(controlnet))
    both = model(*inputs, control=control).sample
    alone = model(*(value[1:] for value in inputs), control=control[1:]).sample
    torch.testing.assert_close(both[1:], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_reach_all_of_the_controlnet_and_nothing_of_the_unet(
    unet, controlnet, inputs, control, checkpointing
):
    model = ControlledUNet(unet, stir(controlnet))
    expected = torch.autograd.grad(model(*inputs, control=control).sample.square().sum(), list(controlnet.parameters()))
    if checkpointing:
        unet.enable_gradient_checkpointing()
        controlnet.enable_gradient_checkpointing()
    model.train()
    model(*inputs, control=control).sample.square().sum().backward()
    assert all(parameter.grad is None for parameter in unet.parameters())
    for (name, parameter), gradient in zip(controlnet.named_parameters(), expected, strict=True):
        to_one_key = any(
            part in name for part in ("attn2.to_q", "attn2.to_k", "norm2")
        )  # attention has no choice there
        assert gradient.any() or to_one_key, name
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-5)


def test_at_the_start_what_is_zero_gets_a_gradient(unet, controlnet, inputs, control):
    ControlledUNet(unet, controlnet)(*inputs, control=control).sample.sum().backward()
    assert all(layer.weight.grad.any() for layer in controlnet.controlnet_down_blocks)
    assert controlnet.controlnet_mid_block.weight.grad.any()


def test_it_survives_being_saved(unet, controlnet, inputs, control, tmp_path):
    stir(controlnet).save_pretrained(tmp_path)
    loaded = ControlNetSVD.from_pretrained(tmp_path)
    loaded.check_fit(unet, FACTOR)
    assert loaded.config.conditioning_channels == CHANNELS and loaded.scale_factor == FACTOR
    expected = controlnet(*inputs, control)
    found = loaded(*inputs, control)
    assert all(torch.equal(*pair) for pair in zip(found.down, expected.down, strict=True))
    assert torch.equal(found.mid, expected.mid)


def test_a_controlnet_of_another_base_is_refused(tiny_svd, unet, controlnet):
    with pytest.raises(ValueError, match="VAE of factor 4, not 8"):
        controlnet.check_fit(unet, 8)
    unet.register_to_config(in_channels=9)
    with pytest.raises(ValueError, match="its in_channels is 8, not 9"):
        controlnet.check_fit(unet, FACTOR)


def test_a_control_of_another_shape_is_refused(controlnet, inputs, control):
    with pytest.raises(ValueError, match=r"has to be \(2, 3, 5, 32, 32\)"):
        controlnet(*inputs, control[:, :, :, ::2])
