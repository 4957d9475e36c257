"""Compiled models. The back ends trace without generating code, except for one slow test."""

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

import patch


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def pairs(batch=4, weight=0.5):
    return [(i, i + 1, "depth", torch.tensor(weight), "both" if i else "x_reads_y") for i in range(0, batch, 2)]


def expected_output(tiny, kind):
    net = tiny.make(kind)
    patch.add_joint(net, "depth", rank=2)
    tiny.teach(net, "depth")
    patch.set_pairs(net, pairs())
    return tiny.run(net, kind)


# Tracing takes seconds each: one network and order of every kind of layer in the ordinary run, all of them in the slow.
QUICK = {("sd", "before"), ("svd", "after")}
CASES = [
    pytest.param(kind, order, marks=() if (kind, order) in QUICK else pytest.mark.slow)
    for kind in ("sd", "sd21", "sdxl", "svd", "motion", "pixart")
    for order in ("before", "after")
]


@pytest.mark.parametrize(("kind", "order"), CASES)
def test_one_graph_whether_compiled_before_or_after_the_patch(tiny, kind, order):
    net = tiny.make(kind)
    backend = CompileCounterWithBackend("aot_eager")
    if order == "before":
        compiled = torch.compile(net, backend=backend, fullgraph=True)
        tiny.run(compiled, kind)
    patch.add_joint(net, "depth", rank=2)
    tiny.teach(net, "depth")
    patch.set_pairs(net, pairs())
    if order == "after":
        compiled = torch.compile(net, backend=backend, fullgraph=True)
    out = tiny.run(compiled, kind)
    torch.testing.assert_close(out, expected_output(tiny, kind), atol=1e-5, rtol=1e-4)
    assert backend.frame_count == (2 if order == "before" else 1)


def test_the_patch_accepts_a_compiled_model(tiny, net):
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    assert patch.add_joint(compiled, "depth", rank=2) is compiled
    tiny.teach(compiled, "depth")
    patch.set_pairs(compiled, pairs())
    torch.testing.assert_close(tiny.run(compiled), expected_output(tiny, "sd"), atol=1e-5, rtol=1e-4)


def test_steps_do_not_recompile_and_a_second_batch_size_does_once(joint_net, tiny):
    backend = CompileCounterWithBackend("eager")
    compiled = torch.compile(joint_net, backend=backend, fullgraph=True)
    patch.set_pairs(joint_net, pairs())
    tiny.run(compiled)
    for weight in (0.1, 0.2, 0.3):
        patch.set_pair_weights(joint_net, [torch.tensor(weight)] * 2)
        tiny.run(compiled)
        patch.set_pairs(joint_net, pairs(weight=weight))
        tiny.run(compiled)
    assert backend.frame_count == 1
    patch.set_pairs(joint_net, pairs(8))
    tiny.run(compiled, batch=8)
    assert backend.frame_count == 2


def test_repeated_blocks_can_be_compiled(joint_net, tiny):
    patch.set_pairs(joint_net, pairs())
    expected = tiny.run(joint_net)
    joint_net.compile_repeated_blocks(backend="eager", fullgraph=True)
    torch.testing.assert_close(tiny.run(joint_net), expected, atol=1e-5, rtol=1e-4)


def test_repeated_blocks_are_compiled_once_per_width_and_batch_size_and_never_for_a_step(joint_net, tiny):
    backend = CompileCounterWithBackend("eager")
    joint_net.compile_repeated_blocks(backend=backend, fullgraph=True)
    patch.set_pairs(joint_net, pairs())
    tiny.run(joint_net)
    widths = 2  # four blocks
    assert backend.frame_count == widths
    patch.set_pair_weights(joint_net, [torch.tensor(0.1)] * 2)
    tiny.run(joint_net)
    assert backend.frame_count == widths
    patch.set_pairs(joint_net, pairs(8))
    tiny.run(joint_net, batch=8)
    assert backend.frame_count == 2 * widths  # as many as the base's


def test_a_compiled_model_checks_its_batch(joint_net, tiny):
    compiled = torch.compile(joint_net, backend="eager")
    patch.set_pairs(joint_net, pairs(2))
    with pytest.raises(Exception, match="are for 2 samples, but the batch has 4"):
        tiny.run(compiled)


def test_compiled_training_gives_the_gradients_of_eager_training(joint_net, tiny):
    patch.set_pairs(joint_net, pairs())
    parameters = patch.joint_parameters(joint_net, "depth")
    joint_net(**tiny.inputs("sd")).sample.square().sum().backward()
    eager = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    compiled = torch.compile(joint_net, backend="aot_eager", fullgraph=True)
    compiled(**tiny.inputs("sd")).sample.square().sum().backward()
    for a, parameter in zip(eager, parameters, strict=True):
        torch.testing.assert_close(parameter.grad, a, atol=1e-4, rtol=1e-3)


def test_removal_after_compiling_gives_the_base(joint_net, tiny):
    compiled = torch.compile(joint_net, backend="eager", fullgraph=True)
    patch.set_pairs(joint_net, pairs())
    tiny.run(compiled)
    assert patch.remove_patch(compiled) is compiled
    torch.testing.assert_close(tiny.run(compiled), tiny.run(tiny.make("sd")), atol=1e-6, rtol=1e-6)


@pytest.mark.slow
def test_generated_code_agrees(joint_net, tiny):
    patch.set_pairs(joint_net, pairs())
    expected = tiny.run(joint_net)
    compiled = torch.compile(joint_net, fullgraph=True)
    torch.testing.assert_close(tiny.run(compiled), expected, atol=1e-5, rtol=1e-4)
