"""Given samples are run once and read from memory: the outputs are those of the whole batch."""

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from torch._dynamo.testing import CompileCounterWithBackend

import patch
from patch.attention import JointAttention


def rows_of(inputs: dict, rows: list[int], batch: int = 4) -> dict:
    """The inputs of some samples, frames included."""
    index = torch.tensor(rows)
    picked = {}
    for key, value in inputs.items():
        per_sample = value.unflatten(0, (batch, -1)) if isinstance(value, torch.Tensor) else value
        picked[key] = per_sample[index].flatten(0, 1) if isinstance(value, torch.Tensor) else value
    if "added_cond_kwargs" in inputs and inputs["added_cond_kwargs"].get("text_embeds") is not None:
        picked["added_cond_kwargs"] = {k: v[index] for k, v in inputs["added_cond_kwargs"].items()}
    return picked


@torch.no_grad()
def cached(net, inputs: dict, given: list[int], batch: int = 4) -> torch.Tensor:
    """The output of the samples that are not given."""
    with patch.record(net, given):
        net(**rows_of(inputs, given, batch))
    return net(**rows_of(inputs, [i for i in range(batch) if i not in given], batch)).sample


@torch.no_grad()
def whole(net, inputs: dict, given: list[int], batch: int = 4) -> torch.Tensor:
    return net(**inputs).sample[[i for i in range(batch) if i not in given]]


def assert_close(a, b):
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("post", ["fuse", "aligned"])
def test_every_kind_of_model(tiny, kind, post):
    net = tiny.make(kind)
    patch.add_joint(net, "depth", rank=2, post=post, temporal=kind in ("svd", "motion"))
    tiny.teach(net, "depth")
    patch.set_pairs(net, [(0, 2, "depth", 0.7, "x_reads_y"), (1, 3, "depth", 1.2, "x_reads_y")])
    inputs = tiny.inputs(kind)
    expected = whole(net, inputs, [2, 3])
    assert_close(cached(net, inputs, [2, 3]), expected)


CASES = {
    "x is given": ([(0, 1, "depth", 0.5, "y_reads_x"), (2, 3, "depth", 0.8, "y_reads_x")], [0, 2]),
    "one of two pairs": ([(0, 1, "depth", 0.5, "x_reads_y"), (2, 3, "depth", 0.8, "x_reads_y")], [1]),
    "beside a joint pair": ([(0, 1, "depth", 0.5, "x_reads_y"), (2, 3, "depth")], [1]),
    "in another order": ([(0, 3, "depth", 1.0, "x_reads_y"), (2, 1, "depth", 1.0, "x_reads_y")], [3, 1]),
    "two conditions": ([(0, 1, "depth", 0.5, "x_reads_y"), (0, 2, "edge", 0.8, "x_reads_y")], [1, 2]),
    "one drawn, one given": ([(0, 1, "depth"), (0, 2, "edge", 0.8, "x_reads_y")], [2]),
    "one y for two x": ([(0, 3, "depth", 0.5, "x_reads_y"), (1, 3, "depth", 0.8, "x_reads_y")], [3]),
    "tensor weights": ([(0, 1, "depth", torch.tensor(0.5), "x_reads_y")], [1]),
}


@pytest.mark.parametrize(("pairs", "given"), list(CASES.values()), ids=list(CASES))
def test_outputs_are_those_of_the_whole_batch(tiny, pairs, given):
    net = tiny.two_adapters()
    patch.set_pairs(net, pairs, batch_size=4)
    expected = whole(net, tiny.inputs("sd"), given)
    assert_close(cached(net, tiny.inputs("sd"), given), expected)


def test_with_masks_of_every_kind(tiny):
    net = tiny.two_adapters()
    patch.set_pairs(net, [(0, 1, "depth", 0.5, "x_reads_y"), (2, 3, "depth", 0.8, "x_reads_y")])
    patch.set_patch_lora_mask(net, "depth_y_lora", [0, 0.5, 0, 1])
    patch.set_patch_lora_mask(net, "depth_xy_lora", [1, 0, 0.3, 0], kv_mask=[0, 0.6, 0, 1])
    patch.set_patch_lora_mask(net, "depth_yx_lora", [0, 1, 0, 1], kv_mask=[1, 0.2, 1, 0])
    expected = whole(net, tiny.inputs("sd"), [1, 3])
    assert_close(cached(net, tiny.inputs("sd"), [1, 3]), expected)


def test_the_others_may_change_from_step_to_step_and_so_may_weights(joint_net, tiny):
    patch.set_pairs(joint_net, [(0, 1, "depth", 1.0, "x_reads_y"), (2, 3, "depth", 1.0, "x_reads_y")])
    inputs = tiny.inputs("sd")
    cached(joint_net, inputs, [1, 3])
    moved = {**inputs, "sample": inputs["sample"].clone(), "timestep": inputs["timestep"].clone()}
    moved["sample"][[0, 2]] += 1
    moved["timestep"][[0, 2]] -= 50
    patch.set_pair_weights(joint_net, [0.3, torch.tensor(0.6)])
    with torch.no_grad():
        out = joint_net(**rows_of(moved, [0, 2])).sample
    patch.set_pairs(joint_net, [(0, 1, "depth", 0.3, "x_reads_y"), (2, 3, "depth", 0.6, "x_reads_y")])
    assert_close(out, whole(joint_net, moved, [1, 3]))


def test_any_other_processor(joint_net, tiny):
    patch.set_pairs(joint_net, [(0, 1, "depth", 0.5, "x_reads_y"), (2, 3, "depth", 0.8, "x_reads_y")])
    expected = whole(joint_net, tiny.inputs("sd"), [1, 3])
    joint_net.set_attn_processor(type("Custom", (AttnProcessor2_0,), {})())
    assert_close(cached(joint_net, tiny.inputs("sd"), [1, 3]), expected)


def test_a_mask_of_the_attention_is_kept_with_the_given_samples(tiny):
    net = tiny.make("pixart")
    patch.add_joint(net, "depth", rank=2)
    tiny.teach(net, "depth")
    layers, hidden = [block.attn1 for block in net.transformer_blocks], torch.randn(2, 5, 16)
    bias = torch.zeros(2, 1, 5)
    bias[1, :, 3:] = -1e9
    patch.set_pairs(net, [(0, 1, "depth", 1.0, "x_reads_y")])
    with torch.no_grad():
        expected = [attn(hidden, attention_mask=bias)[:1] for attn in layers]
        with patch.record(net, [1]):
            for attn in layers:
                attn(hidden[1:], attention_mask=bias[1:])
        for attn, out in zip(layers, expected, strict=True):
            assert_close(attn(hidden[:1], attention_mask=bias[:1]), out)


def test_disabled_leaves_the_others_alone(joint_net, tiny):
    patch.set_pairs(joint_net, [(0, 1, "depth", 1.0, "x_reads_y"), (2, 3, "depth", 1.0, "x_reads_y")])
    on = cached(joint_net, tiny.inputs("sd"), [1, 3])
    with patch.disabled(joint_net), torch.no_grad():
        off = joint_net(**rows_of(tiny.inputs("sd"), [0, 2])).sample
    patch.clear_pairs(joint_net)
    assert_close(off, whole(joint_net, tiny.inputs("sd"), [1, 3]))
    assert (on - off).abs().max() > 1e-3


def test_what_is_recorded_while_disabled_is_read_afterwards(joint_net, tiny):
    patch.set_pairs(joint_net, [(0, 1, "depth", 1.0, "x_reads_y"), (2, 3, "depth", 1.0, "x_reads_y")])
    inputs = tiny.inputs("sd")
    expected = whole(joint_net, inputs, [1, 3])
    with torch.no_grad():
        with patch.disabled(joint_net), patch.record(joint_net, [1, 3]):
            joint_net(**rows_of(inputs, [1, 3]))
        assert_close(joint_net(**rows_of(inputs, [0, 2])).sample, expected)


def test_the_memory_goes_with_the_pairs(joint_net, tiny):
    patch.set_pairs(joint_net, [(0, 1, "depth", 1.0, "x_reads_y"), (2, 3, "depth", 1.0, "x_reads_y")])
    keys = set(joint_net.state_dict())
    expected = tiny.run(joint_net)
    cached(joint_net, tiny.inputs("sd"), [1, 3])
    assert set(joint_net.state_dict()) == keys
    patch.set_pairs(joint_net, patch.get_pairs(joint_net))
    assert not any("joint_memory" in name for name, _ in joint_net.named_modules())
    assert torch.equal(tiny.run(joint_net), expected)


def test_removal_takes_the_memory_away(joint_net, tiny):
    patch.set_pairs(joint_net, [(0, 1, "depth", 1.0, "x_reads_y"), (2, 3, "depth", 1.0, "x_reads_y")])
    cached(joint_net, tiny.inputs("sd"), [1, 3])
    patch.remove_patch(joint_net)
    assert not any("joint" in name for name, _ in joint_net.named_modules())
    assert torch.equal(tiny.run(joint_net), tiny.run(tiny.make("sd")))


def test_wrong_use_raises_one_sentence(joint_net, tiny):
    def enter(given):
        with patch.record(joint_net, given):
            pass

    with pytest.raises(ValueError, match="No pairs are set: call patch.set_pairs for the whole batch"):
        enter([1])
    patch.set_pairs(joint_net, [(0, 1, "depth")])
    with pytest.raises(ValueError, match=r"Sample 1 is given but reads its partner .* direction='x_reads_y'"):
        enter([1])
    with pytest.raises(ValueError, match=r"given=\[0, 1\] does not name some of the 2 samples"):
        enter([0, 1])
    with pytest.raises(ValueError, match=r"given=\[2\] does not name some of the 2 samples"):
        enter([2])
    patch.set_pairs(joint_net, [(0, 1, "depth", 1.0, "x_reads_y")])
    with pytest.raises(ValueError, match="Nothing was recorded: call the model on the given samples"):
        enter([1])
    with pytest.raises(ValueError, match="are for 1 samples, but the batch has 2"), patch.record(joint_net, [1]):
        joint_net(**tiny.inputs("sd", 2))
    tiny.run(joint_net, batch=2)  # a failed recording leaves the pairs as they were
    cached(joint_net, tiny.inputs("sd", 2), [1], batch=2)
    with pytest.raises(ValueError, match="are for 1 samples, but the batch has 2"):
        tiny.run(joint_net, batch=2)
    with pytest.raises(ValueError, match="recorded already: set the pairs again"):
        enter([1])


@torch.no_grad()
def test_a_block_that_records_less_than_every_layer_raises_and_leaves_the_pairs(joint_net, tiny):
    pairs = [(0, 1, "depth", 1.0, "x_reads_y"), (2, 3, "depth", 1.0, "x_reads_y")]
    given = rows_of(tiny.inputs("sd"), [1, 3])
    patch.set_pairs(joint_net, pairs)
    expected = tiny.run(joint_net)
    last = [layer for layer in joint_net.modules() if isinstance(layer, JointAttention)][-1]
    with pytest.raises(ValueError, match="Nothing was recorded"), patch.record(joint_net, [1, 3]):
        handle = last.register_forward_pre_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            joint_net(**given)
        handle.remove()
    assert torch.equal(tiny.run(joint_net), expected)
    with pytest.raises(ValueError, match="set pairs and masks before it"), patch.record(joint_net, [1, 3]):
        joint_net(**given)
        patch.set_pairs(joint_net, pairs)
    assert torch.equal(tiny.run(joint_net), expected)
    with pytest.raises(ValueError, match="set pairs and masks before it"), patch.record(joint_net, [1, 3]):
        patch.set_patch_lora_mask(joint_net, "depth_y_lora", [0, 1, 0, 1])
        assert torch.equal(tiny.run(joint_net), expected)


def test_a_compiled_model_is_compiled_once_for_all_steps_and_recordings(joint_net, tiny):
    torch._dynamo.reset()
    backend = CompileCounterWithBackend("eager")
    one_way = [(0, 1, "depth", 1.0, "x_reads_y"), (2, 3, "depth", 1.0, "x_reads_y")]
    patch.set_pairs(joint_net, one_way)
    expected = whole(joint_net, tiny.inputs("sd"), [1, 3])
    compiled = torch.compile(joint_net, backend=backend, fullgraph=True)
    for _ in range(2):
        patch.set_pairs(joint_net, one_way)
        assert_close(cached(compiled, tiny.inputs("sd"), [1, 3]), expected)
        with torch.no_grad():
            assert_close(compiled(**rows_of(tiny.inputs("sd"), [0, 2])).sample, expected)
    assert backend.frame_count == 1
    torch._dynamo.reset()


def test_the_layers_of_a_model_have_memories_of_their_own(joint_net, tiny):
    patch.set_pairs(joint_net, [(0, 1, "depth", 1.0, "x_reads_y"), (2, 3, "depth", 1.0, "x_reads_y")])
    cached(joint_net, tiny.inputs("sd"), [1, 3])
    layers = [module for module in joint_net.modules() if isinstance(module, JointAttention)]
    keys = [layer.joint_memory.get("depth_x_reads_y")[0] for layer in layers]
    assert len(keys) > 1 and all(key.shape[0] == 2 for key in keys)
