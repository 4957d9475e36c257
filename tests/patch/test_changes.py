"""Weights, scales and adapters that change after `fuse` or `record`, by any function of PyTorch, PEFT or diffusers.

A fused model gives what the model does that is not fused; keys and values of other weights are refused.
"""

import copy
import pickle

import pytest
import torch
from accelerate import cpu_offload, cpu_offload_with_hook
from diffusers.hooks import apply_group_offloading
from diffusers.training_utils import EMAModel
from peft import LoraConfig, get_peft_model_state_dict
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import weight_norm

import patch
from patch.fast import Folded

CPU = torch.device("cpu")
PAIRS = [(0, 2, "depth"), (1, 3, "edge", 0.5)]
ONE_WAY = [(0, 2, "depth", 1.0, "x_reads_y"), (1, 3, "edge", 0.5, "x_reads_y")]


def style(net, name="style", targets=("to_q", "to_v", "to_out.0", "ff.net.2")):
    torch.manual_seed(len(targets))
    config = LoraConfig(r=2, lora_alpha=3, target_modules=list(targets), init_lora_weights=False)
    patch.add_adapter(net, config, name, beside=True)


def make(tiny, pairs=PAIRS):
    net = tiny.two_adapters()
    style(net)
    net.requires_grad_(False)
    patch.set_pairs(net, pairs)
    return net


def parameters(net, part):
    return [parameter for name, parameter in net.named_parameters() if part in name]


@torch.no_grad()
def add(net, part):
    for parameter in parameters(net, part):
        parameter.add_(0.2)


def add_uncounted(net, part):
    for parameter in parameters(net, part):
        parameter.data.add_(0.2)


def replace_data(net, part):
    for parameter in parameters(net, part):
        parameter.data = parameter.data + 0.2


def load_other_weights(net):
    generator = torch.Generator().manual_seed(0)
    state = net.state_dict()
    net.load_state_dict({key: v + 0.1 * torch.randn(v.shape, generator=generator) for key, v in state.items()})


def train_everything(net):
    net.requires_grad_(True)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    torch.optim.SGD(net.parameters(), lr=0.1).step()
    net.requires_grad_(False)


def average(net):
    moving = EMAModel(net.parameters(), decay=0.5)
    add(net, "")
    moving.step(net.parameters())
    moving.copy_to(net.parameters())


def hotswap(net):
    tensors = get_peft_model_state_dict(net, adapter_name="depth_y_lora")
    tensors = {f"unet.{key}": tensor + 0.3 for key, tensor in tensors.items()}
    net.load_lora_adapter(tensors, prefix="unet", adapter_name="depth_y_lora", hotswap=True)


def add_style_anew(net):
    net.delete_adapters("style")
    style(net, targets=("to_q", "conv1"))


def inner_layer(net):
    """One that is merged into a second matrix for y."""
    return net.mid_block.attentions[0].transformer_blocks[0].attn2.to_v


def replace_layer(net):
    torch.manual_seed(0)
    old = inner_layer(net).base_layer
    inner_layer(net).base_layer = torch.nn.Linear(old.in_features, old.out_features, bias=False)


def replace_parameter(net):
    torch.manual_seed(0)
    old = inner_layer(net).base_layer
    old.weight = torch.nn.Parameter(torch.randn_like(old.weight), requires_grad=False)


CHANGES = {
    "fuse_lora": lambda net: net.fuse_lora(adapter_names=["style"]),
    "fuse_lora with a scale": lambda net: net.fuse_lora(0.5, adapter_names=["style"]),
    "unfuse_lora": lambda net: (net.fuse_lora(adapter_names=["style"]), net.unfuse_lora()),
    "load_state_dict": load_other_weights,
    "set_adapters": lambda net: net.set_adapters(["depth_y_lora", "depth_xy_lora", "style"], [0.5, 0.3, 0.7]),
    "set_adapters of others": lambda net: net.set_adapters(["style"], [0.5]),
    "set_scale": lambda net: [m.set_scale("edge_yx_lora", 0.3) for m in net.modules() if hasattr(m, "set_scale")],
    "delete_adapters": lambda net: net.delete_adapters("style"),
    "an adapter is added": lambda net: style(net, "second", ("to_q", "to_out.0")),
    "an adapter is added anew": add_style_anew,
    "hotswap": hotswap,
    "an optimizer": train_everything,
    "LoRA in place": lambda net: add(net, "depth_y_lora"),
    "projection in place": lambda net: add(net, "joint_post"),
    "base in place": lambda net: add(net, "base_layer"),
    "LoRA, uncounted": lambda net: add_uncounted(net, "edge_xy_lora"),
    "base, uncounted": lambda net: add_uncounted(net, "base_layer"),
    "new data": lambda net: replace_data(net, "lora_"),
    "a precision and back": lambda net: net.to(torch.bfloat16).float(),
    "a moving average": average,
    "another layer": replace_layer,
    "another parameter": replace_parameter,
    "pruning": lambda net: prune.l1_unstructured(inner_layer(net).base_layer, "weight", amount=0.5),
    "a parametrisation": lambda net: weight_norm(inner_layer(net).base_layer),
    "freeu": lambda net: net.enable_freeu(0.9, 0.2, 1.2, 1.4),
    "attention slices": lambda net: net.set_attention_slice("max"),
}


def assert_close(a, b):
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("change", list(CHANGES.values()), ids=list(CHANGES))
def test_a_fused_model_follows_every_change(tiny, change):
    plain, fused = make(tiny), make(tiny)
    patch.fuse(fused)
    tiny.run(fused)
    for net in (plain, fused):
        change(net)
    expected = tiny.run(plain)
    assert_close(tiny.run(fused), expected)
    assert any(isinstance(module, Folded) for module in fused.modules())
    patch.unfuse(fused)
    assert_close(tiny.run(fused), expected)


def test_a_model_that_was_fused_with_a_merged_lora_follows_unfuse_lora(tiny):
    plain, fused = make(tiny), make(tiny)
    for net in (plain, fused):
        net.fuse_lora(adapter_names=["style"])
    patch.fuse(fused)
    for net in (plain, fused):
        net.unfuse_lora()
    assert_close(tiny.run(fused), tiny.run(plain))


def test_nothing_is_computed_anew_while_nothing_changes(tiny):
    net = make(tiny)
    patch.fuse(net)
    made = [module for module in net.modules() if isinstance(module, Folded)]
    for pairs in (PAIRS, ONE_WAY, []):
        patch.set_pairs(net, pairs)
        tiny.run(net)
    net.to(CPU)
    tiny.run(net)
    assert [module for module in net.modules() if isinstance(module, Folded)] == made


def test_a_copy_of_a_fused_model_follows_its_own_weights(tiny):
    net = make(tiny)
    patch.fuse(net)
    expected = tiny.run(net)
    twins = [copy.deepcopy(net), pickle.loads(pickle.dumps(net))]
    for twin in twins:
        assert twin._duet.fold.snapshot.views is None  # they would bring the memory of whole parameters with them
        assert torch.equal(tiny.run(twin), expected)
        add(twin, "base_layer")
        changed = tiny.run(twin)
        patch.unfuse(twin)
        assert_close(tiny.run(twin), changed)
    add(net, "base_layer")
    late = [copy.deepcopy(net), pickle.loads(pickle.dumps(net))]
    patch.unfuse(net)
    for twin in late:
        assert_close(tiny.run(twin), tiny.run(net))


@pytest.mark.parametrize("kind", ["base", "joint"])
def test_a_fused_model_gives_no_wrong_gradients(tiny, kind):
    nets = make(tiny), make(tiny)
    patch.fuse(nets[1])
    gradients = []
    for net in nets:
        trained = parameters(net, "base_layer" if kind == "base" else "depth_y_lora")
        for parameter in trained:
            parameter.requires_grad_(True)
        if kind == "joint" and net is nets[1]:
            with pytest.raises(ValueError, match="A fused model does not train its adapters"):
                net(**tiny.inputs("sd"))
            return
        net(**tiny.inputs("sd")).sample.square().mean().backward()
        gradients.append([parameter.grad for parameter in trained])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


OFFLOADS = {
    "whole": lambda net: cpu_offload_with_hook(net, CPU),
    "sequential": lambda net: cpu_offload(net, CPU),
    "groups": lambda net: apply_group_offloading(net, CPU, offload_type="leaf_level", offload_device=CPU),
}


@pytest.mark.parametrize("offload", list(OFFLOADS.values()), ids=list(OFFLOADS))
def test_weights_that_an_offloading_hook_moves_have_not_changed(tiny, offload):
    net = make(tiny, ONE_WAY)
    patch.fuse(net)
    expected = tiny.run(net)
    offload(net)
    for _ in range(2):
        assert torch.equal(tiny.run(net), expected)
    patch.set_pairs(net, ONE_WAY)
    inputs = tiny.inputs("sd")
    with torch.no_grad():
        with patch.record(net, [2, 3]):
            net(**{key: value[2:] for key, value in inputs.items()})
        assert_close(net(**{key: value[:2] for key, value in inputs.items()}).sample, expected[:2])


def test_a_compiled_layer_goes_step_by_step_until_the_pairs_are_set(tiny):
    torch._dynamo.reset()
    nets = make(tiny), make(tiny)
    patch.fuse(nets[1])
    plain, fused = (net.mid_block.attentions[0].transformer_blocks[0].attn1 for net in nets)
    compiled, hidden = torch.compile(fused, backend="eager", fullgraph=True), torch.randn(4, 5, 16)
    with torch.no_grad():
        assert_close(compiled(hidden), plain(hidden))
        for net in nets:
            net.set_adapters(["depth_xy_lora", "depth_y_lora"], [0.5, 0.3])
        assert_close(compiled(hidden), plain(hidden))
        for net in nets:
            add(net, "lora_")
            patch.set_pairs(net, PAIRS)
        assert_close(compiled(hidden), plain(hidden))
    torch._dynamo.reset()


RECORDED = {name: CHANGES[name] for name in ("fuse_lora", "load_state_dict", "set_adapters of others", "an optimizer")}
RECORDED |= {name: CHANGES[name] for name in ("delete_adapters", "an adapter is added", "base, uncounted", "new data")}
RECORDED |= {"disable_adapters": lambda net: net.disable_adapters(), "unload_lora": lambda net: net.unload_lora()}


@pytest.mark.parametrize("change", list(RECORDED.values()), ids=list(RECORDED))
def test_keys_and_values_of_other_weights_are_refused(tiny, change):
    net, inputs = make(tiny, ONE_WAY), tiny.inputs("sd")
    with torch.no_grad(), patch.record(net, [2, 3]):
        net(**{key: value[2:] for key, value in inputs.items()})
    rest = {key: value[:2] for key, value in inputs.items()}
    net(**rest)
    change(net)
    with pytest.raises(ValueError, match="have changed since patch.record|are gone, as after unload_lora"):
        net(**rest)


def test_other_pairs_and_masks_end_what_was_recorded(tiny):
    net, inputs = make(tiny, ONE_WAY), tiny.inputs("sd")
    with torch.no_grad(), patch.record(net, [2, 3]):
        net(**{key: value[2:] for key, value in inputs.items()})
    add(net, "base_layer")
    patch.set_pairs(net, ONE_WAY)
    other = make(tiny, ONE_WAY)
    add(other, "base_layer")
    assert torch.equal(tiny.run(net), tiny.run(other))


def test_moving_a_model_frees_the_memory_that_it_leaves(tiny):
    net = make(tiny)
    patch.fuse(net)
    assert net._duet.fold.snapshot.views is not None
    net.to(torch.float64)
    assert net._duet.fold.snapshot.views is None
