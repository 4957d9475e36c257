"""Attention across frames: samples of one video read each other's tokens."""

import pytest
import torch
from accelerate import cpu_offload, cpu_offload_with_hook
from diffusers.hooks import apply_group_offloading
from diffusers.models.attention_processor import SlicedAttnProcessor
from torch._dynamo.testing import CompileCounterWithBackend

import patch
from patch.tokens import match_tokens

ATTN = "mid_block.attentions.0.transformer_blocks.0.attn1"
CPU = torch.device("cpu")
GROUPS = [(0, 1, 3)]
PAIRS = [(0, 2, "depth", 1.0, "x_reads_y")]


@pytest.fixture
def patched(net):
    return patch.apply_patch(net)


def read_all(attn, queries, tokens):
    """The formula: queries (K, N, C) attend to the tokens of all frames (M, C)."""
    q, k, v = attn.to_q(queries), attn.to_k(tokens), attn.to_v(tokens)
    q, k, v = (t.unflatten(-1, (attn.heads, -1)).transpose(-2, -3) for t in (q, k, v))
    out = (q @ k.transpose(-1, -2) * attn.scale).softmax(-1) @ v
    return attn.to_out[0](out.transpose(-2, -3).flatten(-2))


@torch.no_grad()
def test_a_frame_reads_the_tokens_of_all_frames_of_its_group(patched):
    patch.set_frames(patched, [(3, 0), (1, 4)], batch_size=5)
    attn, hidden = patched.get_submodule(ATTN), torch.randn(5, 6, 16)
    out = attn(hidden)
    for group in ([3, 0], [1, 4], [2]):
        due = read_all(attn, hidden[group], hidden[group].flatten(0, 1))
        torch.testing.assert_close(out[group], due, atol=1e-5, rtol=1e-4)


def test_off_it_is_the_base_bit_by_bit(tiny, patched):
    base = tiny.run(tiny.make("sd"))
    assert torch.equal(tiny.run(patched), base)
    patch.set_frames(patched, GROUPS, batch_size=4)
    assert not torch.allclose(tiny.run(patched), base, atol=1e-4)
    patch.clear_frames(patched)
    assert torch.equal(tiny.run(patched), base)


def test_removal_gives_the_base(tiny, patched):
    other = tiny.make("sd")
    patch.set_frames(patched, GROUPS, batch_size=4)
    patch.remove_patch(patched)
    assert torch.equal(tiny.run(patched), tiny.run(other))
    assert patched.state_dict().keys() == other.state_dict().keys()
    assert {type(m) for m in patched.modules()} == {type(m) for m in other.modules()}


@pytest.mark.parametrize("merge", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("kind", ["sd", "sd21", "sdxl", "pixart"])
def test_frames_of_a_still_video_are_what_each_is_alone(tiny, kind, merge):
    net = patch.apply_patch(tiny.make(kind))
    inputs = {
        name: value[:1].repeat(4, *[1] * (value.ndim - 1)) if isinstance(value, torch.Tensor) else value
        for name, value in tiny.inputs(kind).items()
    }
    if kind == "sdxl":
        inputs["added_cond_kwargs"] = {k: v[:1].repeat(4, 1) for k, v in inputs["added_cond_kwargs"].items()}
    with torch.no_grad():
        alone = net(**inputs).sample
        patch.set_frames(net, [(0, 1, 2, 3)], merge=merge)
        together = net(**inputs).sample
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_merging_leaves_fewer_tokens_and_every_token_counts():
    hidden = torch.randn(4, 10, 8)
    matched = match_tokens(hidden, 0.5)
    assert matched.merge(hidden).shape == (25, 8)  # 10 of the middle frame, and half of the other 30
    assert matched.sizes.sum() + len(matched.kept) == 40
    weights = matched.bias.exp()[:, None]
    torch.testing.assert_close((weights * matched.merge(hidden)).sum(0), hidden.flatten(0, 1).sum(0))


@torch.no_grad()
def test_the_tokens_that_are_most_alike_are_merged():
    hidden = torch.eye(6).repeat(3, 1, 1)
    hidden[2] = -torch.eye(6)
    matched = match_tokens(hidden, 0.5)  # frames 0 and 2 are merged into frame 1
    assert sorted(matched.merged.tolist()) == list(range(6))
    assert matched.into[matched.merged.argsort()].tolist() == list(range(6))


@torch.no_grad()
def test_the_joint_attention_is_added_as_without_frames(tiny):
    net = tiny.two_adapters()
    attn, hidden = net.get_submodule(ATTN), torch.randn(4, 6, 16)
    base = attn(hidden)
    patch.set_pairs(net, PAIRS, batch_size=4)
    with patch.disabled(net):
        separate = attn(hidden)  # with the LoRA of y
    joint = attn(hidden) - separate
    patch.set_frames(net, [(0, 1)], batch_size=4)
    with patch.disabled(net):
        framed = attn(hidden)
    torch.testing.assert_close(attn(hidden) - framed, joint, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(framed[2:], separate[2:], atol=1e-5, rtol=1e-4)
    assert (framed[:2] - base[:2]).abs().max() > 1e-3


@torch.no_grad()
def test_frames_whose_conditions_are_recorded_give_what_the_whole_batch_gives(tiny):
    net = tiny.two_adapters()
    inputs = tiny.inputs("sd")
    pairs = [(0, 2, "depth", 1.0, "x_reads_y"), (1, 3, "depth", 1.0, "x_reads_y")]
    patch.set_pairs(net, pairs)
    patch.set_frames(net, [(0, 1)], batch_size=4)
    whole = net(**inputs).sample
    with patch.record(net, [2, 3]):
        net(**{name: value[2:] for name, value in inputs.items()})
    alone = net(**{name: value[:2] for name, value in inputs.items()}).sample
    torch.testing.assert_close(alone, whole[:2], atol=1e-5, rtol=1e-4)
    patch.set_frames(net, [(1, 2)], batch_size=4)
    with pytest.raises(ValueError, match=r"frames \[1, 2\] attend to one another"), patch.record(net, [2, 3]):
        pass


def test_a_users_lora_acts_and_can_be_disabled(tiny, patched):
    patch.set_frames(patched, GROUPS, batch_size=4)
    base = tiny.run(patched)
    patched.add_adapter(tiny_lora(), "style")
    assert not torch.allclose(tiny.run(patched), base, atol=1e-4)
    patched.disable_adapters()
    torch.testing.assert_close(tiny.run(patched), base, atol=1e-5, rtol=1e-4)


def tiny_lora():
    from peft import LoraConfig

    return LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False)


@pytest.mark.parametrize("merge", [0.0, 0.5])
def test_it_compiles_to_one_graph_and_steps_do_not_recompile(tiny, patched, merge):
    torch._dynamo.reset()
    patch.set_frames(patched, GROUPS, batch_size=4, merge=merge)
    expected = tiny.run(patched)
    backend = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(patched, backend=backend, fullgraph=True)
    for _ in range(2):
        torch.testing.assert_close(tiny.run(compiled), expected, atol=1e-5, rtol=1e-4)
        patch.set_frames(patched, GROUPS, batch_size=4, merge=merge)
    assert backend.frame_count == 1
    torch._dynamo.reset()


def test_it_takes_part_in_training(tiny, patched):
    patch.set_frames(patched, GROUPS, batch_size=4, merge=0.5)
    patched.requires_grad_(True).enable_gradient_checkpointing()
    patched(**tiny.inputs("sd")).sample.square().mean().backward()
    weight = patched.get_submodule(ATTN).to_k.weight
    assert weight.grad.isfinite().all() and weight.grad.abs().sum() > 0


@pytest.mark.parametrize("offload", ["sequential", "whole", "grouped"])
def test_offloading_after_the_patch_changes_nothing(tiny, patched, offload):
    base = tiny.run(patched)
    patch.set_frames(patched, GROUPS, batch_size=4)
    expected = tiny.run(patched)
    if offload == "grouped":
        apply_group_offloading(patched, onload_device=CPU, offload_device=CPU, offload_type="leaf_level")
    else:
        {"sequential": cpu_offload, "whole": cpu_offload_with_hook}[offload](patched, CPU)
    torch.testing.assert_close(tiny.run(patched), expected, atol=1e-6, rtol=1e-6)
    patch.clear_frames(patched)
    torch.testing.assert_close(tiny.run(patched), base, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("groups", "options", "words"),
    [
        ([(0, 1), ()], {}, "empty group"),
        ([(0, 1), (1, 2)], {}, "one twice"),
        ([(-1, 1)], {}, "negative"),
        ([(0, 1)], {"batch_size": 1}, "too small for frames that name sample 1"),
        ([(0, 1)], {"merge": 1.5}, "from 0 to 1"),
    ],
)
def test_groups_that_cannot_be_are_refused(patched, groups, options, words):
    with pytest.raises(ValueError, match=words):
        patch.set_frames(patched, groups, **options)


def test_a_batch_of_another_size_is_refused(tiny, patched):
    patch.set_frames(patched, [(0, 1, 2)])
    with pytest.raises(ValueError, match="for 3 samples, but the batch has 4"):
        tiny.run(patched)


def test_pairs_for_another_batch_are_refused(tiny):
    net = tiny.two_adapters()
    patch.set_pairs(net, [(0, 1, "depth")])
    patch.set_frames(net, [(0, 1)], batch_size=4)
    with pytest.raises(ValueError, match="different batch sizes"):
        tiny.run(net)


def test_a_model_with_frames_of_its_own_is_refused(tiny):
    net = patch.apply_patch(tiny.make("svd"))
    with pytest.raises(ValueError, match="frames of their own"):
        patch.set_frames(net, [(0, 1)])


def test_another_processor_is_refused(tiny, patched):
    patch.set_frames(patched, GROUPS, batch_size=4)
    patched.set_attn_processor(SlicedAttnProcessor(1))
    with pytest.raises(ValueError, match="stock attention processor, not SlicedAttnProcessor"):
        tiny.run(patched)
    patched.set_default_attn_processor()
    tiny.run(patched)
