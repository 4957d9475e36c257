"""The joint attention against the formula, written out row by row."""

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import AttnProcessor2_0, SlicedAttnProcessor
from peft import LoraConfig

import patch
from patch.attention import JointAttention
from patch.post import POSTS, post_key
from patch.state import lora_name

ATTN = "mid_block.attentions.0.transformer_blocks.0.attn1"


def weight(attn, layer, *adapters):
    """A projection's matrix with adapters merged in, and its bias."""
    lora = attn.get_submodule(layer)
    matrix = lora.base_layer.weight.clone()
    for adapter in adapters:
        matrix += lora.scaling[adapter] * lora.lora_B[adapter].weight @ lora.lora_A[adapter].weight
    return matrix, lora.base_layer.bias


def attention(attn, q_rows, kv_rows, query=(), memory=()):
    q = F.linear(q_rows, *weight(attn, "to_q", *query))
    k, v = (F.linear(kv_rows, *weight(attn, layer, *memory)) for layer in ("to_k", "to_v"))
    q, k, v = (t.unflatten(-1, (attn.heads, -1)).transpose(-2, -3) for t in (q, k, v))
    scores = (q @ k.transpose(-1, -2) * attn.scale).softmax(-1)
    return F.linear((scores @ v).transpose(-2, -3).flatten(-2), *weight(attn, "to_out.0", *query))


def post_matrix(attn, name):
    """The output projection as one 2C x 2C matrix on [x; y]."""
    post, C = attn.joint_post[post_key(name)], attn.out_dim
    columns = []
    with torch.no_grad():
        for unit in torch.eye(2 * C):
            x, y = post(unit[:C].view(1, 1, C), unit[C:].view(1, 1, C))
            columns.append(torch.cat([x, y], -1).flatten())
    return torch.stack(columns, dim=1)


def aligned(attn, name, outs, values):
    """ "aligned" for both sides: up (down read + same value), the value being the partner's at the same place."""
    post = attn.joint_post[post_key(name)]
    for side, out, value in zip("xy", outs, values, strict=True):
        down, same, up = (getattr(post, f"{part}_{side}").weight for part in ("down", "same", "up"))
        yield (out @ down.T + value @ same.T) @ up.T


def expected(attn, hidden, pairs, user=()):
    """Self-attention with y_lora on y rows, plus the sum over pairs of weight * post([x reads y; y reads x])."""
    out = []
    for row, h in enumerate(hidden):
        names = {lora_name(p.name, "y") for p in pairs if p.y == row}
        out.append(attention(attn, h, h, (*user, *names), (*user, *names)))
    for p in pairs:
        xy, yx = (lora_name(p.name, role) for role in ("xy", "yx"))
        x_out = attention(attn, hidden[p.x], hidden[p.y], [xy], [xy]) if p.x_reads else torch.zeros_like(hidden[0])
        y_out = attention(attn, hidden[p.y], hidden[p.x], [yx], [yx]) if p.y_reads else torch.zeros_like(hidden[0])
        if attn.joint_post[post_key(p.name)].ALIGNED:
            values = [F.linear(hidden[s], *weight(attn, "to_v", a)) for s, a in ((p.y, xy), (p.x, yx))]
            x, y = aligned(attn, p.name, (x_out, y_out), values)
        else:
            x, y = (torch.cat([x_out, y_out], -1) @ post_matrix(attn, p.name).T).chunk(2, -1)
        out[p.x] = out[p.x] + p.weights[0] * x * p.x_reads
        out[p.y] = out[p.y] + p.weights[1] * y * p.y_reads
    return torch.stack(out)


@pytest.mark.parametrize("post", POSTS)
@torch.no_grad()
def test_the_joint_attention_is_the_formula(tiny, pairs, post):
    net = tiny.two_adapters(post)
    patch.set_pairs(net, pairs, batch_size=4)
    attn, hidden = net.get_submodule(ATTN), torch.randn(4, 6, 16)
    torch.testing.assert_close(attn(hidden), expected(attn, hidden, pairs), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_users_lora_reaches_self_attention_only(tiny):
    net = tiny.two_adapters()
    layers = [f"attn1.{layer}" for layer in ("to_q", "to_k", "to_v", "to_out.0")]
    config = LoraConfig(r=2, target_modules=layers, init_lora_weights=False)
    net.add_adapter(config, "style")
    pairs = tiny.pairings["two conditions of one x"]
    patch.set_pairs(net, pairs, batch_size=4)
    attn, hidden = net.get_submodule(ATTN), torch.randn(4, 6, 16)
    torch.testing.assert_close(attn(hidden), expected(attn, hidden, pairs, ["style"]), atol=1e-5, rtol=1e-4)


def test_equal_guidance_copies_get_equal_outputs(tiny):
    net = tiny.two_adapters()
    inputs = tiny.inputs("sd", 2)
    doubled = {key: torch.cat([value, value]) for key, value in inputs.items()}
    with torch.no_grad():
        patch.set_pairs(net, [(0, 1, "depth")])
        once = net(**inputs).sample
        patch.set_pairs(net, [(0, 1, "depth"), (2, 3, "depth")])
        twice = net(**doubled).sample
    torch.testing.assert_close(twice, torch.cat([once, once]), atol=1e-5, rtol=1e-4)


def test_a_side_that_does_not_read_is_a_model_of_its_own(tiny):
    net = tiny.two_adapters()
    patch.set_pairs(net, [(0, 1, "depth", 1.0, "x_reads_y"), (2, 3, "depth", 1.0, "y_reads_x")])
    out = tiny.run(net)
    with patch.disabled(net):
        separate = tiny.run(net)
    for row in (1, 2):
        torch.testing.assert_close(out[row], separate[row], atol=1e-5, rtol=1e-4)
    for row in (0, 3):
        assert (out[row] - separate[row]).abs().max() > 1e-3


def test_disabled_keeps_the_lora_of_y_and_ends_with_the_block(tiny):
    net = tiny.two_adapters()
    base = tiny.run(net)
    patch.set_pairs(net, [(0, 1, "depth")], batch_size=4)
    joint = tiny.run(net)
    with patch.disabled(net):
        separate = tiny.run(net)
        patch.set_pairs(net, [(0, 1, "edge")], batch_size=4)
        assert not torch.equal(tiny.run(net)[1], separate[1])
        patch.set_pairs(net, [(0, 1, "depth")], batch_size=4)
    assert torch.equal(separate[0], base[0]) and not torch.equal(separate[1], base[1])
    assert torch.equal(tiny.run(net), joint)


@pytest.mark.parametrize("processor", [SlicedAttnProcessor(2), type("Custom", (AttnProcessor2_0,), {})()])
def test_any_other_processor_agrees_with_shared_projections(tiny, kind, processor):
    net = tiny.make(kind)
    patch.add_joint(net, "depth", rank=2)
    tiny.teach(net, "depth")
    patch.set_pairs(net, [(0, 2, "depth"), (1, 3, "depth", 0.5)])
    shared = tiny.run(net, kind)
    for module in net.modules():
        if isinstance(module, JointAttention):
            module.set_processor(processor)
    torch.testing.assert_close(tiny.run(net, kind), shared, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("temporal", [False, True])
def test_frames_of_a_sample_read_their_partners_frames(tiny, temporal):
    """Swapping two pairs of videos swaps their outputs: rows of frames and of positions keep to their sample."""
    for kind in ("svd", "motion"):
        net = tiny.make(kind)
        patch.add_joint(net, "depth", rank=2, temporal=temporal)
        tiny.teach(net, "depth")
        inputs = tiny.inputs(kind)
        order = torch.tensor([3, 0, 2, 1])
        moved = {}
        for key, value in inputs.items():
            per_sample = value.unflatten(0, (4, -1))
            moved[key] = per_sample[order].flatten(0, 1)
        with torch.no_grad():
            patch.set_pairs(net, [(0, 1, "depth"), (2, 3, "depth", 0.5, "x_reads_y")])
            out = net(**inputs).sample
            patch.set_pairs(net, [(1, 3, "depth"), (2, 0, "depth", 0.5, "x_reads_y")])
            assert torch.allclose(net(**moved).sample, out[order], atol=1e-5)


def test_adapters_with_and_without_attention_over_time_share_a_model(tiny):
    net = tiny.make("svd")
    patch.add_joint(net, "depth", rank=2)
    tiny.teach(net, "depth")
    patch.set_pairs(net, [(0, 1, "depth"), (2, 3, "depth")])
    alone = tiny.run(net, "svd")
    patch.add_joint(net, "flow", rank=2, temporal=True)
    tiny.teach(net, "flow")
    assert torch.equal(tiny.run(net, "svd"), alone)
    patch.set_pairs(net, [(0, 1, "depth"), (2, 3, "flow")])
    torch.testing.assert_close(tiny.run(net, "svd")[:2], alone[:2], atol=1e-5, rtol=1e-4)


def test_a_given_attention_mask_masks_the_source(tiny):
    net = tiny.make("pixart")
    patch.add_joint(net, "depth", rank=2)
    tiny.teach(net, "depth")
    attn, hidden = net.get_submodule("transformer_blocks.0.attn1"), torch.randn(2, 5, 16)
    bias = torch.zeros(2, 1, 5)
    bias[1, :, 3:] = -1e9
    patch.set_pairs(net, [(0, 1, "depth", 1.0, "x_reads_y")])
    changed = hidden.clone()
    changed[1, 3:] += 1.0
    with torch.no_grad():
        assert torch.equal(attn(hidden, attention_mask=bias)[0], attn(changed, attention_mask=bias)[0])
        assert not torch.equal(attn(hidden)[0], attn(changed)[0])


def gradients(net, name, tiny):
    for parameter in patch.joint_parameters(net, name):
        parameter.grad = None
    inputs = tiny.inputs("sd")
    inputs["sample"].requires_grad_(True)  # reentrant checkpointing needs an input with a gradient
    net(**inputs).sample.square().sum().backward()
    return [p.grad for p in patch.joint_parameters(net, name)]


@pytest.mark.parametrize("post", ["fuse", "aligned"])
@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_gives_equal_gradients(tiny, reentrant, post):
    joint_net = tiny.make("sd")
    patch.add_joint(joint_net, "depth", rank=2, post=post)
    tiny.teach(joint_net, "depth")
    patch.set_pairs(joint_net, [(0, 1, "depth"), (2, 3, "depth", 0.5, "x_reads_y")])
    joint_net.train()
    plain = gradients(joint_net, "depth", tiny)

    def checkpoint(function, *args):
        return torch.utils.checkpoint.checkpoint(function, *args, use_reentrant=reentrant)

    joint_net.enable_gradient_checkpointing(checkpoint)
    recomputed = gradients(joint_net, "depth", tiny)
    assert any(p.abs().max() > 0 for p in plain)
    for a, b in zip(plain, recomputed, strict=True):
        # The reentrant form sums the gradients of a block's input in another order.
        torch.testing.assert_close(a, b, atol=1e-5 * reentrant, rtol=1e-5 * reentrant)


def test_shared_projections_give_the_gradients_of_separate_ones(joint_net, tiny):
    patch.set_pairs(joint_net, [(0, 1, "depth"), (2, 3, "depth", 0.5, "x_reads_y")])
    shared = gradients(joint_net, "depth", tiny)
    joint_net.set_attn_processor(type("Custom", (AttnProcessor2_0,), {})())
    for a, b in zip(shared, gradients(joint_net, "depth", tiny), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


def test_half_precision_bases_take_adapters_in_float32(joint_net, tiny):
    joint_net.to(torch.bfloat16)
    for parameter in patch.joint_parameters(joint_net, "depth"):
        parameter.data = parameter.data.float()
    patch.set_pairs(joint_net, [(0, 1, "depth", 0.5), (2, 3, "depth")])
    inputs = {key: value.bfloat16() for key, value in tiny.inputs("sd").items()}
    out = joint_net(**inputs).sample
    assert out.dtype == torch.bfloat16 and out.isfinite().all()


def test_the_weight_of_two_noise_levels_is_a_half_where_both_are_given():
    t_x, t_y = torch.tensor([0.0, 1.0, 0.0, 0.5]), torch.tensor([0.0, 0.0, 1.0, 0.5])
    sides = torch.tensor([0.0, -1.5, 1.5, 0.0]).sigmoid()
    torch.testing.assert_close(patch.noise_weight(t_x, t_y), sides)
    assert patch.noise_weight(t_x, t_y)[0] == 0.5


def test_weights_of_the_pairs_change_without_setting_the_pairs_again(tiny):
    net = tiny.two_adapters()
    patch.set_pairs(net, [(0, 1, "depth", 0.3), (2, 3, "edge", 0.6, "x_reads_y")])
    out = tiny.run(net)
    patch.set_pairs(net, [(0, 1, "depth"), (2, 3, "edge", 1.0, "x_reads_y")])
    patch.set_pair_weights(net, torch.tensor([0.3, 0.6]))
    torch.testing.assert_close(tiny.run(net), out)


def test_wrong_pairs_raise_one_sentence(joint_net, tiny):
    def set_weight(weight):
        patch.set_pair_weights(joint_net, [weight])

    with pytest.raises(ValueError, match="There is no joint adapter 'edge': the model has 'depth'"):
        patch.set_pairs(joint_net, [(0, 1, "edge")])
    with pytest.raises(ValueError, match="no joint adapter without a name"):
        patch.set_pairs(joint_net, [(0, 1)])
    with pytest.raises(ValueError, match="two different samples counted from 0, not x=1, y=1"):
        patch.set_pairs(joint_net, [(1, 1, "depth")])
    with pytest.raises(ValueError, match="direction='up' is unknown: choose one of both, x_reads_y, y_reads_x"):
        patch.set_pairs(joint_net, [(0, 1, "depth", 1.0, "up")])
    with pytest.raises(ValueError, match="batch_size=2 is too small for pairs that name sample 3"):
        patch.set_pairs(joint_net, [(0, 3, "depth")], batch_size=2)
    with pytest.raises(ValueError, match="1 and 1 weights were given for 0 pairs"):
        patch.set_pair_weights(joint_net, [1.0])
    with pytest.raises(
        ValueError, match=r"A pair has one weight, not a tensor of shape \(2,\): give each pair its own"
    ):
        patch.set_pairs(joint_net, [(0, 1, "depth", torch.ones(2))])
    patch.set_pairs(joint_net, [(0, 1, "depth")])
    for refused in (lambda weight: patch.set_pairs(joint_net, [(0, 3, "depth", weight)]), set_weight):
        with pytest.raises(ValueError, match="much"):
            refused("much")
    assert [(pair.y, pair.weight) for pair in patch.get_pairs(joint_net)] == [(1, 1.0)]
    with pytest.raises(ValueError, match="are for 2 samples, but the batch has 4"):
        tiny.run(joint_net)
    with pytest.raises(ValueError, match="are for 2 samples, but the batch has 3"):
        joint_net.get_submodule(ATTN)(torch.randn(3, 6, 16))


def test_an_unpaired_joint_attention_mask_raises_one_sentence(net):
    patch.apply_patch(net)
    patch.initialize_joint_layers(net)
    with pytest.raises(ValueError, match="2 x and 1 y samples: each x needs its y"):
        patch.set_joint_attention_mask(net, [1, 1, 0])
