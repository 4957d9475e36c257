"""IP-Adapter and other patches of the same layers, before and after ours."""

import pytest
import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention

import patch

PAIRS = [(0, 2, "depth"), (1, 3, "depth")]


def ip_adapter_weights(net):
    """An image embedding of 6 numbers as 4 tokens, in the published layout."""
    width = net.config.cross_attention_dim
    generator = torch.Generator().manual_seed(0)
    weights = {
        "image_proj": {
            "proj.weight": torch.randn(4 * width, 6, generator=generator),
            "proj.bias": torch.zeros(4 * width),
            "norm.weight": torch.ones(width),
            "norm.bias": torch.zeros(width),
        },
        "ip_adapter": {},
    }
    place = 1
    for name in net.attn_processors:
        if name.endswith("attn2.processor"):
            size = net.get_submodule(name.removesuffix(".processor")).to_q.in_features
            for part in ("k", "v"):
                weights["ip_adapter"][f"{place}.to_{part}_ip.weight"] = torch.randn(size, width, generator=generator)
            place += 2
    return weights


def run_with_image(net, tiny):
    image = torch.ones(4, 1, 6)
    with torch.no_grad():
        return net(**tiny.inputs("sd"), added_cond_kwargs={"image_embeds": [image]}).sample


def test_ip_adapter_may_be_loaded_before_or_after(tiny):
    before, after = tiny.make("sd"), tiny.make("sd")
    before._load_ip_adapter_weights([ip_adapter_weights(before)])
    base = run_with_image(before, tiny)
    for net in (before, after):
        patch.add_joint(net, "depth", rank=2)
        tiny.teach(net, "depth")
    after._load_ip_adapter_weights([ip_adapter_weights(after)])
    assert torch.equal(run_with_image(after, tiny), base)
    for net in (before, after):
        patch.set_pairs(net, PAIRS)
    assert torch.equal(run_with_image(before, tiny), run_with_image(after, tiny))
    patch.remove_patch(after)
    assert torch.equal(run_with_image(after, tiny), base)


class OtherBlock(BasicTransformerBlock):
    """Another patch, of the kind that swaps a block's class."""

    def forward(self, hidden_states, *args, **kwargs):
        return 0.5 * super().forward(hidden_states, *args, **kwargs)


def swap_blocks(net, old, new):
    for module in net.modules():
        if type(module) is old:
            module.__class__ = new


@pytest.mark.parametrize("other_first", [True, False])
def test_another_patch_on_the_blocks_may_come_and_go_in_any_order(tiny, net, other_first):
    base = tiny.run(net)
    if other_first:
        swap_blocks(net, BasicTransformerBlock, OtherBlock)
    patch.add_joint(net, "depth", rank=2)
    tiny.teach(net, "depth")
    patch.set_pairs(net, PAIRS)
    if not other_first:
        swap_blocks(net, BasicTransformerBlock, OtherBlock)
    if other_first:
        swap_blocks(net, OtherBlock, BasicTransformerBlock)
        patch.remove_patch(net)
    else:
        patch.remove_patch(net)
        swap_blocks(net, OtherBlock, BasicTransformerBlock)
    assert torch.equal(tiny.run(net), base)


def test_a_class_put_back_by_another_patch_can_be_patched_again(tiny, net):
    base = tiny.run(net)
    patch.apply_patch(net)
    attn = net.mid_block.attentions[0].transformer_blocks[0].attn1
    kept = type(attn)
    attn.__class__ = type("Other", (kept,), {})
    patch.remove_patch(net)
    assert torch.equal(tiny.run(net), base)
    attn.__class__ = kept
    assert torch.equal(tiny.run(net), base)
    patch.add_joint(net, "depth", rank=2)
    patch.remove_patch(net)
    assert type(attn) is Attention


def test_a_wrapped_forward_that_outlives_the_patch_is_the_base(tiny, net):
    base = tiny.run(net)
    patch.add_joint(net, "depth", rank=2)
    tiny.teach(net, "depth")
    attn = net.mid_block.attentions[0].transformer_blocks[0].attn1
    attn.forward = attn.forward
    patch.remove_patch(net)
    assert torch.equal(tiny.run(net), base)


def test_another_patch_on_the_attention_is_named(net):
    attn = net.mid_block.attentions[0].transformer_blocks[0].attn1
    attn.forward = attn.forward
    with pytest.raises(
        ValueError, match="Another patch has replaced mid_block.attentions.0.transformer_blocks.0.attn1"
    ):
        patch.apply_patch(net)
