"""Models whose weights move: the hooks of accelerate and diffusers, run on the CPU."""

import copy

import pytest
import torch
from accelerate import cpu_offload, cpu_offload_with_hook
from diffusers.hooks import apply_group_offloading

import patch

PAIRS = [(0, 2, "depth"), (1, 3, "depth", 0.5, "x_reads_y")]
CPU = torch.device("cpu")


def sequential(net):
    cpu_offload(net, CPU)


def whole(net):
    cpu_offload_with_hook(net, CPU)


def grouped(net):
    apply_group_offloading(net, onload_device=CPU, offload_device=CPU, offload_type="leaf_level")


@pytest.mark.parametrize("offload", [sequential, whole, grouped])
@pytest.mark.parametrize("kind", ["sd", "svd"])
def test_offloading_after_the_patch_changes_nothing(tiny, kind, offload):
    net = tiny.make(kind)
    base = tiny.run(net, kind)
    patch.add_joint(net, "depth", rank=2)
    tiny.teach(net, "depth")
    patch.set_pairs(net, PAIRS)
    expected = tiny.run(net, kind)
    offload(net)
    torch.testing.assert_close(tiny.run(net, kind), expected, atol=1e-6, rtol=1e-6)
    patch.set_pairs(net, PAIRS[:1], batch_size=4)
    assert not torch.equal(tiny.run(net, kind), expected)
    patch.remove_patch(net)
    torch.testing.assert_close(tiny.run(net, kind), base, atol=1e-6, rtol=1e-6)


def test_a_model_that_is_offloaded_as_a_whole_can_be_patched(tiny, net):
    whole(net)
    patch.add_joint(net, "depth", rank=2)
    tiny.teach(net, "depth")
    patch.set_pairs(net, PAIRS)
    other = tiny.make("sd")
    patch.add_joint(other, "depth", rank=2)
    tiny.teach(other, "depth")
    patch.set_pairs(other, PAIRS)
    assert torch.equal(tiny.run(net), tiny.run(other))


@pytest.mark.parametrize("offload", [sequential, grouped])
def test_a_model_offloaded_in_parts_is_refused(tiny, net, offload, tmp_path):
    patched = copy.deepcopy(net)
    patch.add_joint(patched, "depth", rank=2)
    patch.save(patched, tmp_path, "depth")
    offload(net)
    offload(patched)
    for change in (
        lambda: patch.apply_patch(net),
        lambda: patch.add_joint(patched, "edge"),
        lambda: patch.initialize_joint_layers(patched, "edge"),
        lambda: patch.load(net, tmp_path),
    ):
        with pytest.raises(ValueError, match="offloaded in parts .* then enable the offloading"):
            change()
