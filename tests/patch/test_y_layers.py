"""`y_lora` on every linear layer and convolution."""

import pytest
import torch

import patch
from patch.surgery import is_patched

PAIRS = [(0, 2, "depth"), (3, 1, "depth")]


def test_it_starts_bit_equal_and_then_changes_the_rows_of_y_alone(tiny, kind):
    net = tiny.make(kind)
    expected = tiny.run(net, kind)
    patch.add_joint(net, "depth", rank=2, y_layers="all")
    patch.set_pairs(net, PAIRS)
    assert torch.equal(tiny.run(net, kind), expected)
    tiny.teach(net, "depth")
    with patch.disabled(net):  # without joint attention nothing of y comes to x
        out = tiny.run(net, kind)
    torch.testing.assert_close(out[[0, 3]], expected[[0, 3]], atol=1e-6, rtol=1e-5)
    assert all((out[row] - expected[row]).abs().max() > 1e-3 for row in (1, 2))


def test_it_reaches_every_layer_of_the_network_and_none_of_the_patch(tiny, kind):
    net = tiny.make(kind)
    kinds = (torch.nn.Linear, torch.nn.Conv2d, torch.nn.Conv3d)
    own = {name for name, module in net.named_modules() if isinstance(module, kinds)}
    patch.add_joint(net, "depth", rank=2, y_layers="all")
    patch.add_joint(net, "edge", rank=2, y_layers="all")
    for name in ("depth", "edge"):
        layers = {layer for layer, module in net.named_modules() if f"{name}_y_lora" in getattr(module, "lora_A", {})}
        assert layers == own


@pytest.mark.parametrize("kind", ["sd", "svd"])
def test_it_survives_a_file_and_learns_under_checkpointing(tiny, kind, tmp_path):
    net = tiny.make(kind)
    patch.add_joint(net, "depth", rank=2, alpha=3, y_layers="all", temporal=kind == "svd")
    tiny.teach(net, "depth")
    patch.set_pairs(net, PAIRS)
    patch.save(net, tmp_path, "depth")
    other = tiny.make(kind)
    patch.load(other, tmp_path)
    patch.set_pairs(other, PAIRS)
    torch.testing.assert_close(tiny.run(other, kind), tiny.run(net, kind), atol=1e-5, rtol=1e-5)
    net.train().enable_gradient_checkpointing()
    net(**tiny.inputs(kind)).sample.square().sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in patch.joint_parameters(net, "depth"))


def test_a_choice_that_there_is_not_is_refused_before_the_model_is_touched(net):
    with pytest.raises(ValueError, match="y_layers='some' is unknown: choose one of attention, all"):
        patch.add_joint(net, "depth", y_layers="some")
    assert not is_patched(net)


def test_loading_adds_the_other_layers_which_change_nothing_yet(tiny, kind, tmp_path):
    net = tiny.make(kind)
    patch.add_joint(net, "depth", rank=2)
    tiny.teach(net, "depth")
    patch.save(net, tmp_path, "depth")
    plain, more = tiny.make(kind), tiny.make(kind)
    patch.load(plain, tmp_path)
    patch.load(more, tmp_path, y_layers="all")
    for one in (plain, more):
        patch.set_pairs(one, PAIRS)
    torch.testing.assert_close(tiny.run(more, kind), tiny.run(plain, kind), atol=1e-6, rtol=1e-5)
    assert len(patch.joint_parameters(more, "depth")) > len(patch.joint_parameters(plain, "depth"))
    with pytest.raises(ValueError, match="y_layers='some' is unknown"):
        patch.load(tiny.make(kind), tmp_path, y_layers="some")
