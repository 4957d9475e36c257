"""What a patched forward asks of the device: no reading back, no gathering by masks, and each base projection once."""

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import patch
from patch.attention import LAYERS, JointAttention
from patch.lora import base_of

READS_BACK = {"_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique_dim", "_unique2"}
BY_MASK = {"index", "index_put", "index_put_", "masked_scatter", "masked_scatter_"}
FROM_HOST = {"lift_fresh", "lift_fresh_copy", "_to_copy", "scalar_tensor"}
COPIES = {"clone", "copy_", "index_select", "index_add_"}


class Operations(TorchDispatchMode):
    """Counts the operations that reach the device."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.counts[function.overloadpacket.__name__] += 1
        return function(*args, **(kwargs or {}))


def operations(net, inputs: dict) -> Counter:
    with torch.no_grad(), Operations() as counted:
        net(**inputs)
    return counted.counts


def beyond_base(tiny, net, rows=4) -> set[str]:
    """Operations of which a network has more than the base on as many rows."""
    base = operations(tiny.make("sd"), tiny.inputs("sd", rows))
    return set((operations(net, tiny.inputs("sd", rows)) - base).keys())


IN_ORDER = [(0, 2, "depth"), (1, 3, "depth")]
PAIRINGS = {
    "in order": IN_ORDER,
    "in any order": [(3, 0, "depth"), (1, 2, "depth")],
    "weights": [(0, 2, "depth", 0.5), (1, 3, "depth", torch.tensor(0.7))],
    "directions": [(0, 2, "depth", 1.0, "x_reads_y"), (1, 3, "depth", 1.0, "y_reads_x")],
}


@pytest.mark.parametrize("pairs", list(PAIRINGS.values()), ids=list(PAIRINGS))
def test_nothing_is_read_back_gathered_by_a_mask_or_sent_from_the_host(joint_net, tiny, pairs):
    patch.set_pairs(joint_net, pairs)
    forbidden = READS_BACK | BY_MASK | FROM_HOST
    assert not beyond_base(tiny, joint_net) & forbidden
    patch.fuse(joint_net)
    assert not beyond_base(tiny, joint_net) & forbidden


def test_pairs_in_order_cost_no_copy_of_activations(joint_net, tiny):
    patch.set_pairs(joint_net, IN_ORDER)
    assert not beyond_base(tiny, joint_net) & COPIES
    patch.fuse(joint_net)
    assert not beyond_base(tiny, joint_net) & COPIES


def test_a_cached_condition_costs_no_copy_and_nothing_from_the_host(joint_net, tiny):
    patch.set_pairs(joint_net, [(0, 2, "depth", 1.0, "x_reads_y"), (1, 3, "depth", 1.0, "x_reads_y")])
    with torch.no_grad(), patch.record(joint_net, [2, 3]):
        joint_net(**tiny.inputs("sd", 2))
    assert not beyond_base(tiny, joint_net, rows=2) & (READS_BACK | BY_MASK | FROM_HOST | COPIES)


def test_without_pairs_the_operations_are_the_base_s(joint_net, tiny):
    assert operations(joint_net, tiny.inputs("sd")) == operations(tiny.make("sd"), tiny.inputs("sd"))


@pytest.mark.parametrize("training", [False, True])
def test_the_base_projects_q_k_and_v_once_for_both_attentions(joint_net, tiny, training):
    calls = Counter()
    layers = [
        base_of(getattr(attn, name))
        for attn in joint_net.modules()
        if isinstance(attn, JointAttention)
        for name in LAYERS
    ]
    for layer in layers:
        layer.register_forward_hook(lambda module, args, out: calls.update([module]))
    patch.set_pairs(joint_net.train(training), PAIRINGS["in any order"])
    with torch.set_grad_enabled(training):
        joint_net(**tiny.inputs("sd"))
    assert calls == Counter(layers)
