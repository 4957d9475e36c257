"""A fused model gives the same outputs from plain matrices, and unfusing gives back the very same model."""

import copy
import pickle

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from peft import LoraConfig
from safetensors.torch import load_file
from torch._dynamo.testing import CompileCounterWithBackend

import patch
from patch.fast import Matrix, ThinLora
from patch.post import POSTS


def assert_close(a, b):
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def forms(net, kind) -> list[str]:
    return [name for name, module in net.named_modules() if isinstance(module, kind)]


def test_every_kind_of_model(tiny, kind):
    net = tiny.make(kind)
    patch.add_joint(net, "depth", rank=2, temporal=kind in ("svd", "motion"))
    tiny.teach(net, "depth")
    patch.set_pairs(net, [(0, 2, "depth"), (1, 3, "depth", 0.5)])
    expected = tiny.run(net, kind)
    patch.fuse(net)
    assert_close(tiny.run(net, kind), expected)
    patch.unfuse(net)
    assert torch.equal(tiny.run(net, kind), expected)


@pytest.mark.parametrize("post", POSTS)
def test_adapters_directions_and_weights(tiny, post):
    net, fused = tiny.two_adapters(post), tiny.two_adapters(post)
    patch.fuse(fused)
    for pairs in tiny.pairings.values():
        for each in (net, fused):
            patch.set_pairs(each, pairs, batch_size=4)
        assert_close(tiny.run(fused), tiny.run(net))


def test_fused_before_or_after_the_pairs_are_set(joint_net, tiny):
    patch.set_pairs(joint_net, [(0, 1, "depth"), (2, 3, "depth")])
    expected = tiny.run(joint_net)
    patch.fuse(joint_net)
    after = tiny.run(joint_net)
    patch.set_pairs(joint_net, patch.get_pairs(joint_net))
    assert_close(after, expected)
    assert torch.equal(tiny.run(joint_net), after)


def test_masks_that_differ_from_the_pairs(tiny):
    net, fused = tiny.two_adapters(), tiny.two_adapters()
    patch.fuse(fused)
    for each in (net, fused):
        patch.set_pairs(each, [(0, 1, "depth"), (2, 3, "depth")])
        patch.set_patch_lora_mask(each, "depth_y_lora", [0, 0.5, 0, 1])
        patch.set_patch_lora_mask(each, "depth_xy_lora", [1, 0, 0.3, 1], kv_mask=[0, 0.6, 0, 1])
    assert_close(tiny.run(fused), tiny.run(net))
    for each in (net, fused):
        patch.set_patch_lora_mask(each, "depth_y_lora", [0, 1, 1, 1])
        patch.set_patch_lora_mask(each, "depth_xy_lora", None)
    assert_close(tiny.run(fused), tiny.run(net))


def test_without_pairs_the_base_is_bit_equal_and_disabled_agrees(joint_net, tiny):
    base = tiny.run(tiny.make("sd"))
    patch.set_pairs(joint_net, [(0, 1, "depth"), (2, 3, "depth")])
    with patch.disabled(joint_net):
        expected = tiny.run(joint_net)
    patch.fuse(joint_net)
    with patch.disabled(joint_net):
        assert_close(tiny.run(joint_net), expected)
    patch.clear_pairs(joint_net)
    assert torch.equal(tiny.run(joint_net), base)


def test_beside_a_users_lora(tiny):
    net, fused = tiny.two_adapters(), tiny.two_adapters()
    patch.fuse(fused)
    for each in (net, fused):
        torch.manual_seed(0)
        config = LoraConfig(r=2, target_modules=["to_q", "to_out.0"], init_lora_weights=False)
        patch.add_adapter(each, config, "style")
        patch.set_pairs(each, [(0, 1, "depth"), (2, 3, "edge")])
    assert_close(tiny.run(fused), tiny.run(net))
    for each in (net, fused):
        each.disable_adapters()
    assert_close(tiny.run(fused), tiny.run(net))


def test_any_other_processor(joint_net, tiny):
    patch.set_pairs(joint_net, [(0, 1, "depth"), (2, 3, "depth")])
    expected = tiny.run(joint_net)
    patch.fuse(joint_net)
    joint_net.set_attn_processor(type("Custom", (AttnProcessor2_0,), {})())
    assert_close(tiny.run(joint_net), expected)


@pytest.mark.parametrize("post", POSTS)
def test_given_samples_are_recorded_in_a_fused_model(tiny, post):
    joint_net = tiny.make("sd")
    patch.add_joint(joint_net, "depth", rank=2, post=post)
    tiny.teach(joint_net, "depth")
    patch.set_pairs(joint_net, [(0, 1, "depth", 0.5, "x_reads_y")])
    inputs = tiny.inputs("sd", 2)
    expected = tiny.run(joint_net, batch=2)[:1]
    patch.fuse(joint_net)
    x, y = ({key: value[rows] for key, value in inputs.items()} for rows in (slice(1), slice(1, 2)))
    with torch.no_grad(), patch.record(joint_net, [1]):
        joint_net(**y)
    with torch.no_grad():
        assert_close(joint_net(**x).sample, expected)


def test_weights_and_state_dict_stay_and_saving_gives_the_same_file(joint_net, tiny, tmp_path):
    before = {key: value.clone() for key, value in joint_net.state_dict().items()}
    patch.save(joint_net, tmp_path / "before", "depth")
    patch.fuse(joint_net)
    patch.save(joint_net, tmp_path / "fused", "depth")
    files = [load_file(tmp_path / folder / "depth.safetensors") for folder in ("before", "fused")]
    assert files[0].keys() == files[1].keys() and all(torch.equal(files[0][key], files[1][key]) for key in files[0])
    after = joint_net.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)


def test_unfusing_and_removing_leave_nothing_behind(joint_net, tiny):
    modules = [name for name, _ in joint_net.named_modules()]
    patch.fuse(joint_net)
    patch.unfuse(joint_net)
    assert [name for name, _ in joint_net.named_modules()] == modules
    patch.fuse(joint_net)
    patch.remove_patch(joint_net)
    base = tiny.make("sd")
    assert [name for name, _ in joint_net.named_modules()] == [name for name, _ in base.named_modules()]
    assert torch.equal(tiny.run(joint_net), tiny.run(base))


def test_copies_and_pickles_stay_fused(joint_net, tiny):
    patch.set_pairs(joint_net, [(0, 1, "depth"), (2, 3, "depth")])
    patch.fuse(joint_net)
    expected = tiny.run(joint_net)
    for twin in (copy.deepcopy(joint_net), pickle.loads(pickle.dumps(joint_net))):
        assert torch.equal(tiny.run(twin), expected)
        patch.unfuse(twin)
    assert forms(joint_net, ThinLora)


@pytest.mark.parametrize(("widths", "kind"), [((8, 16), Matrix), ((32, 64), ThinLora)])
def test_wide_layers_keep_thin_pairs_and_narrow_ones_are_merged(tiny, widths, kind):
    net = tiny.make("sd", block_out_channels=widths)
    patch.add_joint(net, "depth", rank=1)
    patch.fuse(net)
    fused = [m for name, m in net.named_modules() if "attn2" in name and name.endswith("joint_fused.depth_y_lora")]
    assert fused and all(isinstance(module, kind) for module in fused)


def test_half_precision_bases_take_adapters_in_float32(joint_net, tiny):
    joint_net.to(torch.bfloat16)
    for parameter in patch.joint_parameters(joint_net, "depth"):
        parameter.data = parameter.data.float()
    patch.fuse(joint_net)
    patch.set_pairs(joint_net, [(0, 1, "depth", 0.5), (2, 3, "depth")])
    inputs = {key: value.bfloat16() for key, value in tiny.inputs("sd").items()}
    with torch.no_grad():
        out = joint_net(**inputs).sample
    assert out.dtype == torch.bfloat16 and out.isfinite().all()


def test_one_graph_for_a_fused_model(joint_net, tiny):
    torch._dynamo.reset()
    patch.set_pairs(joint_net, [(0, 1, "depth"), (2, 3, "depth")])
    expected = tiny.run(joint_net)
    patch.fuse(joint_net)
    backend = CompileCounterWithBackend("eager")
    compiled = torch.compile(joint_net, backend=backend, fullgraph=True)
    for _ in range(2):
        assert_close(tiny.run(compiled), expected)
    assert backend.frame_count == 1
    torch._dynamo.reset()


def test_wrong_use_raises_one_sentence(net, tiny):
    patch.apply_patch(net)
    with pytest.raises(ValueError, match="nothing to fuse: call patch.add_joint or patch.load first"):
        patch.fuse(net)
    patch.add_joint(net, "depth", rank=2)
    with pytest.raises(ValueError, match="The model is not fused: call patch.fuse first"):
        patch.unfuse(net)
    patch.fuse(net)
    with pytest.raises(ValueError, match="fused already: call patch.unfuse first"):
        patch.fuse(net)
    with pytest.raises(ValueError, match="call patch.unfuse before adding the adapter 'edge'"):
        patch.add_joint(net, "edge", rank=2)
    patch.set_pairs(net, [(0, 1, "depth"), (2, 3, "depth")])
    with pytest.raises(ValueError, match="A fused model does not train its adapters: call patch.unfuse"):
        net(**tiny.inputs("sd"))
