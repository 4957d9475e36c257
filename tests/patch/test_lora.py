"""LoRA layers that obey a mask per sample."""

import pytest
import torch
from peft import LoHaConfig, LoraConfig

import patch


def config(targets, **changes):
    return LoraConfig(r=2, lora_alpha=3, target_modules=targets, init_lora_weights=False, **changes)


def set_lab_masks(net):
    patch.set_patch_lora_mask(net, "xy_lora", [1, 1, 0, 0])
    patch.set_patch_lora_mask(net, "yx_lora", [0, 0, 1, 1])
    patch.set_patch_lora_mask(net, "y_lora", [0, 0, 1, 1])
    patch.set_joint_attention_mask(net, [1, 1, 0, 0])


def test_masks_of_the_lab_mean_what_the_pairs_mean(lab_net, tiny):
    patch.set_joint_attention_mask(lab_net, [1, 1, 0, 0])
    followed = tiny.run(lab_net)
    set_lab_masks(lab_net)
    assert torch.equal(tiny.run(lab_net), followed)
    patch.set_patch_lora_mask(lab_net, "xy_lora", [0, 0, 0, 0])
    assert not torch.equal(tiny.run(lab_net), followed)
    patch.set_patch_lora_mask(lab_net, "xy_lora", None)
    assert torch.equal(tiny.run(lab_net), followed)


def test_removal_takes_the_adapters_of_the_lab_away(tiny, lab_net):
    set_lab_masks(lab_net)
    patch.remove_patch(lab_net)
    plain = tiny.make("sd")
    assert torch.equal(tiny.run(lab_net), tiny.run(plain))
    assert list(lab_net.state_dict()) == list(plain.state_dict())
    assert sorted(lab_net.__dict__) == sorted(plain.__dict__)


def test_setting_a_mask_activates_the_adapter_beside_the_others(lab_net):
    assert lab_net.active_adapters() == ["y_lora"]
    set_lab_masks(lab_net)
    assert sorted(lab_net.active_adapters()) == ["xy_lora", "y_lora", "yx_lora"]
    assert all(p.requires_grad for p in patch.joint_parameters(lab_net))


def test_a_self_adapter_acts_on_its_rows_only(tiny, kind):
    net = tiny.make(kind)
    base = tiny.run(net, kind)
    patch.apply_patch(net)
    patch.add_adapter(net, config(patch.self_lora_targets(net)), "style")
    everywhere = tiny.run(net, kind)
    patch.set_patch_lora_mask(net, "style", [0, 1, 1, 0])
    out = tiny.run(net, kind)
    torch.testing.assert_close(out[[0, 3]], base[[0, 3]], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(out[[1, 2]], everywhere[[1, 2]], atol=1e-5, rtol=1e-4)
    patch.set_patch_lora_mask(net, "style", None)
    assert torch.equal(tiny.run(net, kind), everywhere)


@pytest.mark.parametrize("kind", ["sd", "svd", "motion"])
def test_convolutions_and_time_embeddings_obey_masks_too(tiny, kind):
    net = tiny.make(kind)
    base = tiny.run(net, kind)
    patch.apply_patch(net)
    patch.add_adapter(net, config(["conv1", "time_emb_proj", "linear_1"]), "style")
    everywhere = tiny.run(net, kind)
    patch.set_patch_lora_mask(net, "style", torch.tensor([False, True, True, False]))
    out = tiny.run(net, kind)
    torch.testing.assert_close(out[[0, 3]], base[[0, 3]], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(out[[1, 2]], everywhere[[1, 2]], atol=1e-5, rtol=1e-4)
    assert not torch.equal(everywhere, base)


@pytest.mark.parametrize("variant", ["use_dora", "use_rslora", "lora_bias"])
def test_variants_of_lora_obey_masks(tiny, net, variant):
    base = tiny.run(net)
    patch.apply_patch(net)
    net.add_adapter(config(["conv1", "to_out.0"], **{variant: True}), "style")
    everywhere = tiny.run(net)
    patch.set_patch_lora_mask(net, "style", [0, 1, 0, 1])
    out = tiny.run(net)
    torch.testing.assert_close(out[::2], base[::2], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(out[1::2], everywhere[1::2], atol=1e-5, rtol=1e-4)


def test_a_mask_may_hold_weights(tiny, net):
    patch.apply_patch(net)
    net.add_adapter(config(["attn1.to_out.0"]), "style")
    patch.set_patch_lora_mask(net, "style", [0, 0.5, 1, 2])
    layer = net.get_submodule("mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0")
    x = torch.randn(4, 5, 16)
    with torch.no_grad():
        delta = layer.lora_B["style"](layer.lora_A["style"](x)) * layer.scaling["style"]
        expected = layer.base_layer(x) + torch.tensor([0, 0.5, 1, 2]).view(4, 1, 1) * delta
        torch.testing.assert_close(layer(x), expected)


def test_without_masks_lora_layers_are_pefts_bit_by_bit(tiny, net):
    torch.manual_seed(0)
    net.add_adapter(config(["to_q", "conv1"]), "style")
    net.add_adapter(config(["to_q", "to_k"]), "second")
    net.set_adapters(["second", "style"], [0.3, 0.9])
    plain = tiny.run(net)
    patch.apply_patch(net)
    patch.hack_lora_forward(net)
    assert torch.equal(tiny.run(net), plain)
    patch.add_joint(net, "depth", rank=2)
    tiny.teach(net, "depth")
    assert torch.equal(tiny.run(net), plain)
    net.disable_adapters()
    assert torch.equal(tiny.run(net), tiny.run(tiny.make("sd")))


def test_an_adapter_added_later_is_picked_up(joint_net, tiny):
    patch.set_pairs(joint_net, [(0, 2, "depth"), (1, 3, "depth")])
    before = tiny.run(joint_net)
    joint_net.add_adapter(config(["ff.net.2"]), "other_xy_lora")
    assert torch.equal(tiny.run(joint_net), before)


def test_a_users_lora_loaded_later_leaves_the_joint_adapter_at_work(joint_net, tiny):
    patch.set_pairs(joint_net, [(0, 2, "depth"), (1, 3, "depth")])
    before = tiny.run(joint_net)
    silent = LoraConfig(r=2, target_modules=["to_q", "to_v", "ff.net.2"])
    joint_net.add_adapter(silent, "style")
    assert torch.equal(tiny.run(joint_net), before)
    joint_net.set_adapters(["style"], [0.5])
    assert torch.equal(tiny.run(joint_net), before)


def test_deleting_a_users_lora_leaves_the_joint_adapter(joint_net, tiny):
    patch.set_pairs(joint_net, [(0, 2, "depth"), (1, 3, "depth")])
    before = tiny.run(joint_net)
    joint_net.add_adapter(config(["to_q", "ff.net.2"]), "style")
    assert not torch.equal(tiny.run(joint_net), before)
    joint_net.delete_adapters("style")
    assert torch.equal(tiny.run(joint_net), before)


def test_unloading_all_loras_is_noticed_and_can_be_removed(joint_net, tiny):
    joint_net.unload_lora()
    with pytest.raises(ValueError, match="LoRAs of the joint adapter 'depth' are gone, as after unload_lora"):
        patch.set_pairs(joint_net, [(0, 1, "depth")])
    patch.remove_patch(joint_net)
    assert list(joint_net.state_dict()) == list(tiny.make("sd").state_dict())
    patch.add_joint(joint_net, "depth", rank=2)


def test_disabling_all_adapters_disables_the_joint_ones(joint_net, tiny):
    patch.set_pairs(joint_net, [(0, 2, "depth"), (1, 3, "depth")])
    joint_net.disable_adapters()
    with torch.no_grad():
        for _, module in joint_net.named_modules():
            if hasattr(module, "joint_post"):
                for parameter in module.joint_post.parameters():
                    parameter.zero_()
    assert torch.equal(tiny.run(joint_net), tiny.run(tiny.make("sd")))


def test_kv_mask_gives_k_and_v_to_their_own_row(lab_net, tiny):
    """With only x reading, an adapter whose kv_mask holds y changes what y's k and v are, and q and out of nobody."""
    net = lab_net
    patch.set_pairs(net, [patch.Pair(0, 1, direction="x_reads_y")])
    patch.set_patch_lora_mask(net, "xy_lora", [0, 0], kv_mask=[0, 1])
    attn = net.get_submodule("mid_block.attentions.0.transformer_blocks.0.attn1")
    hidden = torch.randn(2, 5, 16)
    with torch.no_grad():
        given = attn(hidden)
        for layer in (attn.to_q, attn.to_out[0]):
            layer.lora_B["xy_lora"].weight.zero_()
        assert torch.equal(attn(hidden), given)
        attn.to_v.lora_B["xy_lora"].weight.zero_()
        assert not torch.equal(attn(hidden), given)


def test_a_users_lora_can_be_merged_and_a_masked_one_cannot(joint_net, tiny):
    patch.set_pairs(joint_net, [(0, 2, "depth"), (1, 3, "depth")])
    joint_net.add_adapter(config(["attn2.to_q", "ff.net.2"]), "style")
    expected = tiny.run(joint_net)
    joint_net.fuse_lora(adapter_names=["style"])
    torch.testing.assert_close(tiny.run(joint_net), expected, atol=1e-5, rtol=1e-4)
    joint_net.unfuse_lora()
    with pytest.raises(ValueError, match="'depth_y_lora' acts on some rows of the batch only and cannot be merged"):
        joint_net.fuse_lora(adapter_names=["depth_y_lora"])


def test_masks_of_the_wrong_length_raise_one_sentence(lab_net, tiny):
    patch.set_patch_lora_mask(lab_net, "y_lora", [0, 1])
    with pytest.raises(ValueError, match="are for 2 samples, but the batch has 4"):
        tiny.run(lab_net)
    patch.set_joint_attention_mask(lab_net, [1, 1, 0, 0])
    with pytest.raises(ValueError, match=r"different batch sizes \(the pairs: 4, the mask of 'y_lora': 2\)"):
        tiny.run(lab_net)
    patch.set_patch_lora_mask(lab_net, "y_lora", [0, 0, 1, 1])
    tiny.run(lab_net)
    with pytest.raises(ValueError, match="mask has 4 entries and kv_mask 2"):
        patch.set_patch_lora_mask(lab_net, "xy_lora", [1, 1, 0, 0], kv_mask=[1, 0])


def test_frames_do_not_hide_a_mask_of_the_wrong_length(tiny):
    net = tiny.make("svd")
    patch.add_joint(net, "depth", rank=2)
    patch.set_pairs(net, [(0, 1, "depth")])
    with pytest.raises(ValueError, match="are for 2 samples, but the batch has 4"):
        tiny.run(net, "svd", batch=4)


def test_layers_that_cannot_obey_a_mask_are_named(net):
    patch.apply_patch(net)
    net.add_adapter(LoHaConfig(r=2, target_modules=["to_q"]), "haar")
    with pytest.raises(ValueError, match="Adapter 'haar' is no LoRA: only LoRA layers obey a mask"):
        patch.set_patch_lora_mask(net, "haar", [0, 1])


def test_unknown_adapters_raise_one_sentence(lab_net):
    with pytest.raises(ValueError, match="There is no adapter 'z_lora': the model has xy_lora, yx_lora, y_lora"):
        patch.set_patch_lora_mask(lab_net, "z_lora", [1, 0])
    with pytest.raises(ValueError, match="already: choose another name"):
        patch.add_adapter(lab_net, config(["to_q"]), "y_lora")
    with pytest.raises(ValueError, match="joint adapter without a name already"):
        patch.add_joint(lab_net)
