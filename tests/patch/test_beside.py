"""Functions of diffusers and PEFT on a patched model with pairs: they act as without the patch, or are refused."""

import copy

import pytest
import torch
from diffusers.utils.peft_utils import set_adapter_layers
from peft import LoraConfig

import patch

PAIRS = [(0, 2, "depth"), (1, 3, "depth", 0.5)]


def assert_close(a, b):
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def style_config(*targets):
    torch.manual_seed(5)
    return LoraConfig(r=2, lora_alpha=3, target_modules=list(targets), init_lora_weights=False)


def with_joint(tiny, kind="sd", **changes):
    net = tiny.make(kind)
    patch.add_joint(net, "depth", rank=2, alpha=3, **changes)
    tiny.teach(net, "depth")
    net.requires_grad_(False)
    return net


@pytest.fixture
def styled(tiny):
    """A network with the joint adapter "depth" and pairs, and a user's LoRA "style" beside the joint attention."""
    net = with_joint(tiny)
    patch.set_pairs(net, PAIRS)
    patch.add_adapter(net, style_config("attn2.to_q", "ff.net.2"), "style", beside=True)
    return net


class TestDisabling:
    @pytest.mark.parametrize("fused", [False, True])
    @pytest.mark.parametrize("lora", [False, True])
    def test_gives_the_base_and_enabling_the_joint_model(self, styled, tiny, lora, fused):
        if fused:
            patch.fuse(styled)
        expected, base = tiny.run(styled), tiny.run(tiny.make("sd"))
        styled.disable_lora() if lora else styled.disable_adapters()
        assert torch.equal(tiny.run(styled), base)
        styled.enable_lora() if lora else styled.enable_adapters()
        assert torch.equal(tiny.run(styled), expected)

    def test_in_every_kind_of_model(self, tiny, kind):
        net = with_joint(tiny, kind, temporal=kind in ("svd", "motion"))
        patch.set_pairs(net, PAIRS)
        set_adapter_layers(net, enabled=False)
        assert torch.equal(tiny.run(net, kind), tiny.run(tiny.make(kind), kind))

    def test_where_only_other_layers_have_a_lora(self, net, tiny):
        base = tiny.run(net)
        patch.initialize_joint_layers(patch.apply_patch(net))
        for name, parameter in net.named_parameters():
            if "joint_post" in name:
                torch.nn.init.normal_(parameter)
        net.add_adapter(style_config("ff.net.2"), "style")
        patch.set_joint_attention_mask(net, [1, 0, 1, 0])
        assert not torch.equal(tiny.run(net), base)
        net.disable_adapters()
        assert torch.equal(tiny.run(net), base)

    def test_reaches_adapters_that_come_later(self, tiny):
        net, twin = tiny.make("sd"), with_joint(tiny)
        net.add_adapter(style_config("attn1.to_q"), "style")
        net.disable_adapters()
        patch.add_joint(net, "depth", rank=2, alpha=3)
        tiny.teach(net, "depth")
        patch.set_pairs(net, PAIRS)
        assert torch.equal(tiny.run(net), tiny.run(tiny.make("sd")))
        net.enable_adapters()
        patch.add_adapter(twin, style_config("attn1.to_q"), "style", beside=True)
        patch.set_pairs(twin, PAIRS)
        assert_close(tiny.run(net), tiny.run(twin))

    def test_is_refused_for_given_samples(self, styled, tiny):
        patch.set_pairs(styled, [(0, 1, "depth", 1.0, "x_reads_y")])
        styled.disable_adapters()
        disabled = pytest.raises(ValueError, match="LoRAs are disabled: call enable_adapters before patch.record")
        with disabled, patch.record(styled, [1]):
            pass


class TestFusedProjections:
    @pytest.mark.parametrize("kind", ["sd", "sdxl", "motion", "pixart"])
    @pytest.mark.parametrize("first", [False, True])
    def test_are_refused_with_pairs_and_allowed_without(self, tiny, kind, first):
        net = tiny.make(kind)
        base = tiny.run(net, kind)
        if first:
            net.fuse_qkv_projections()
        patch.add_joint(net, "depth", rank=2, alpha=3)
        tiny.teach(net, "depth")
        if not first:
            net.fuse_qkv_projections()
        assert_close(tiny.run(net, kind), base)
        patch.set_pairs(net, PAIRS)
        with pytest.raises(ValueError, match="fuse_qkv_projections leaves out the LoRAs of q, k and v: call unfuse"):
            tiny.run(net, kind)
        net.unfuse_qkv_projections()
        expected = with_joint(tiny, kind)
        patch.set_pairs(expected, PAIRS)
        assert torch.equal(tiny.run(net, kind), tiny.run(expected, kind))

    def test_are_refused_with_a_mask(self, net, tiny):
        patch.apply_patch(net)
        net.add_adapter(style_config("attn2.to_k"), "style")
        patch.set_patch_lora_mask(net, "style", [0, 1, 0, 1])
        net.fuse_qkv_projections()
        with pytest.raises(ValueError, match="leaves out the LoRAs"):
            tiny.run(net)

    def test_are_refused_in_a_single_layer(self, styled):
        styled.fuse_qkv_projections()
        attn = styled.mid_block.attentions[0].transformer_blocks[0].attn1
        with pytest.raises(ValueError, match="leaves out the LoRAs"):
            attn(torch.randn(4, 5, 16))


class TestChunks:
    @pytest.mark.parametrize("kind", ["svd", "motion"])
    def test_of_the_batch_are_refused_where_a_lora_needs_its_rows(self, tiny, kind):
        net = with_joint(tiny, kind, y_layers="all")
        patch.set_pairs(net, PAIRS)
        expected = tiny.run(net, kind)
        net.enable_forward_chunking(4, dim=0)
        with pytest.raises(ValueError, match=r"enable_forward_chunking over the batch \(dim=0\)"):
            tiny.run(net, kind)
        net.enable_forward_chunking(1, dim=1)
        assert_close(tiny.run(net, kind), expected)

    def test_of_the_batch_are_allowed_elsewhere(self, tiny):
        net = with_joint(tiny, "svd")
        patch.set_pairs(net, PAIRS)
        expected = tiny.run(net, "svd")
        net.enable_forward_chunking(3, dim=0)
        assert_close(tiny.run(net, "svd"), expected)


class TestMerging:
    def test_a_style_stays_merged_when_a_joint_adapter_comes(self, tiny, tmp_path):
        patch.save(with_joint(tiny), tmp_path, "depth")
        net = tiny.make("sd")
        net.add_adapter(style_config("to_q", "ff.net.2"), "style")
        net.requires_grad_(False)
        net.fuse_lora(adapter_names=["style"])
        expected = tiny.run(net)
        weights = {key: value.clone() for key, value in net.state_dict().items() if "base_layer" in key}
        patch.load(net, tmp_path, "depth")
        patch.add_joint(net, "edge", rank=2)
        assert torch.equal(tiny.run(net), expected)
        assert all(torch.equal(net.state_dict()[key], value) for key, value in weights.items())
        assert {tuple(m.merged_adapters) for m in net.modules() if "style" in getattr(m, "lora_A", {})} == {("style",)}
        patch.remove_patch(net)
        assert torch.equal(tiny.run(net), expected)
        net.unfuse_lora()
        assert_close(tiny.run(net), expected)

    def test_a_merged_style_acts_beside_another_one_that_comes(self, tiny):
        net, twin = tiny.make("sd"), tiny.make("sd")
        for each in (net, twin):
            patch.add_adapter(each, style_config("to_q", "ff.net.2"), "style")
        net.fuse_lora(adapter_names=["style"])
        for each in (net, twin):
            patch.add_adapter(each, style_config("to_q", "to_k"), "second", beside=True)
        assert_close(tiny.run(net), tiny.run(twin))

    def test_a_scale_is_the_style_s_alone(self, tiny):
        merged, other = tiny.make("sd"), tiny.make("sd")
        for net in (merged, other):
            net.add_adapter(style_config("attn2.to_q", "ff.net.2"), "style")
            patch.add_joint(net, "depth", rank=2, alpha=3)
            tiny.teach(net, "depth")
            patch.set_pairs(net, PAIRS)
        merged.fuse_lora(0.5, adapter_names=["style"])
        other.set_adapters(["style"], [0.5])
        assert_close(tiny.run(merged), tiny.run(other))
        with torch.no_grad():
            once = other(**tiny.inputs("sd"), cross_attention_kwargs={"scale": 0.5}).sample
        other.set_adapters(["style"], [0.25])
        assert_close(once, tiny.run(other))

    @pytest.mark.parametrize("names", [None, ["style", "depth_y_lora"]])
    @pytest.mark.parametrize("fused", [False, True])
    def test_that_is_refused_changes_no_layer(self, styled, tiny, names, fused):
        if fused:
            patch.fuse(styled)
        expected = tiny.run(styled)
        with pytest.raises(ValueError, match="acts on some rows .* pass the adapter_names of your own LoRAs"):
            styled.fuse_lora(0.3, adapter_names=names)
        assert torch.equal(tiny.run(styled), expected)
        assert not any(layer.merged_adapters for layer in styled.modules() if hasattr(layer, "merged_adapters"))

    def test_is_refused_right_after_a_load_and_for_a_lora_with_a_mask(self, net, styled, tiny, tmp_path):
        patch.save(styled, tmp_path, "depth")
        patch.load(net, tmp_path, "depth")
        with pytest.raises(ValueError, match="Adapter 'depth_y_lora' acts on some rows"):
            net.fuse_lora(adapter_names=["depth_y_lora"])
        assert torch.equal(tiny.run(net), tiny.run(tiny.make("sd")))
        patch.set_patch_lora_mask(styled, "style", [1, 0, 0, 1])
        with pytest.raises(ValueError, match="take its mask away with patch.set_patch_lora_mask"):
            styled.fuse_lora(adapter_names=["style"])

    def test_a_copy_is_merged_alone(self, styled, tiny):
        expected, twin = tiny.run(styled), copy.deepcopy(styled)
        twin.fuse_lora(adapter_names=["style"])
        assert any(layer.merged_adapters for layer in twin.modules() if hasattr(layer, "merged_adapters"))
        assert torch.equal(tiny.run(styled), expected)

    def test_a_merged_adapter_is_refused_a_mask(self, net, tiny):
        patch.apply_patch(net)
        net.add_adapter(style_config("to_q"), "style")
        net.fuse_lora()
        patch.set_patch_lora_mask(net, "style", [1, 0, 0, 0])
        with pytest.raises(
            ValueError, match="'style' is merged into the weights, .* call unfuse_lora before setting pairs"
        ):
            tiny.run(net)
        net.unfuse_lora()
        tiny.run(net)


REMOVALS = {
    "unload_lora": lambda net: net.unload_lora(),
    "one of them": lambda net: net.delete_adapters("depth_y_lora"),
    "all": lambda net: net.delete_adapters(["depth_xy_lora", "depth_yx_lora", "depth_y_lora"]),
}


class TestRemoval:
    @pytest.mark.parametrize("remove", list(REMOVALS.values()), ids=list(REMOVALS))
    @pytest.mark.parametrize("fused", [False, True])
    def test_of_joint_loras_is_refused_with_pairs_and_without_them_the_base(self, tiny, remove, fused):
        net = with_joint(tiny)
        patch.set_pairs(net, PAIRS)
        if fused:
            patch.fuse(net)
        tiny.run(net)
        remove(net)
        with pytest.raises(ValueError, match="LoRAs of the joint adapter 'depth' are gone, as after unload_lora"):
            tiny.run(net)
        patch.clear_pairs(net)
        assert torch.equal(tiny.run(net), tiny.run(tiny.make("sd")))

    def test_of_an_adapter_that_no_pair_needs_is_allowed(self, tiny):
        net = tiny.two_adapters()
        patch.set_pairs(net, PAIRS)
        expected = tiny.run(net)
        net.delete_adapters(["edge_xy_lora", "edge_yx_lora", "edge_y_lora"])
        assert torch.equal(tiny.run(net), expected)

    def test_of_a_masked_lora_is_refused_until_the_mask_goes(self, styled, tiny):
        without = with_joint(tiny)
        patch.set_pairs(without, PAIRS)
        patch.set_patch_lora_mask(styled, "style", [1, 0, 0, 0])
        styled.delete_adapters("style")
        with pytest.raises(ValueError, match="The LoRA 'style' is gone, .* has a mask: add it again, or call"):
            tiny.run(styled)
        patch.set_patch_lora_mask(styled, "style", None)
        assert torch.equal(tiny.run(styled), tiny.run(without))

    def test_a_lora_of_the_same_name_that_comes_anew_obeys_its_mask(self, styled, tiny):
        tiny.run(styled)
        styled.delete_adapters("style")
        without = with_joint(tiny)
        patch.set_pairs(without, PAIRS)
        before = tiny.run(without)
        patch.add_adapter(styled, style_config("conv1", "ff.net.0.proj"), "style", beside=True)
        patch.set_patch_lora_mask(styled, "style", [0, 0, 0, 0])
        assert torch.equal(tiny.run(styled), before)
