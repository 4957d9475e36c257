"""What putting the patch in and taking it out leaves as it was."""

import copy
import pickle

import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from peft import LoraConfig
from safetensors.torch import load_file

import patch
from patch.post import POSTS

PAIRS = [(0, 2, "depth"), (1, 3, "depth")]


def hook_counts(module):
    return [len(entry) for name, entry in module.__dict__.items() if name.endswith(("_hooks", "_kwargs")) and entry]


def snapshot(net):
    """Everything that removal has to restore."""
    return {
        path: (type(module), sorted(module.__dict__), list(module._modules), hook_counts(module))
        for path, module in net.named_modules()
    }


@pytest.mark.parametrize("post", POSTS)
def test_every_step_before_training_is_bit_equal(tiny, kind, post):
    net = tiny.make(kind)
    base = tiny.run(net, kind)
    assert patch.apply_patch(net) is net
    assert torch.equal(tiny.run(net, kind), base)
    patch.initialize_joint_layers(net, post=post)
    patch.set_joint_attention_mask(net, [1, 0, 1, 0])
    assert torch.equal(tiny.run(net, kind), base)
    patch.add_joint(net, "depth", rank=2, post=post)
    patch.set_pairs(net, PAIRS)
    assert torch.equal(tiny.run(net, kind), base)


@pytest.mark.parametrize("temporal", [False, True])
def test_removal_restores_everything(tiny, kind, temporal):
    net = tiny.make(kind)
    base, keys, before = tiny.run(net, kind), list(net.state_dict()), snapshot(net)
    for parameter in list(net.parameters())[::2]:
        parameter.requires_grad_(True)
    trainable = [p.requires_grad for p in net.parameters()]
    patch.add_joint(net, "depth", rank=2, temporal=temporal)
    tiny.teach(net, "depth")
    patch.set_pairs(net, PAIRS)
    assert not torch.equal(tiny.run(net, kind), base)
    patch.remove_patch(net)
    assert [p.requires_grad for p in net.parameters()] == trainable
    net.requires_grad_(False)
    assert torch.equal(tiny.run(net, kind), base)
    assert list(net.state_dict()) == keys
    assert snapshot(net) == before


def test_without_pairs_a_trained_adapter_is_silent(tiny, kind):
    net = tiny.make(kind)
    base = tiny.run(net, kind)
    patch.add_joint(net, "depth", rank=2)
    tiny.teach(net, "depth")
    assert torch.equal(tiny.run(net, kind), base)
    patch.set_pairs(net, PAIRS)
    assert not torch.equal(tiny.run(net, kind), base)
    patch.clear_pairs(net)
    assert torch.equal(tiny.run(net, kind), base)


def test_temporal_blocks_are_patched_on_request(tiny):
    for kind in ("svd", "motion"):
        net = tiny.make(kind)
        patch.apply_patch(net)
        spatial = patch.joint_lora_targets(net)
        patch.apply_patch(net, temporal=True)
        assert len(patch.joint_lora_targets(net)) > len(spatial)
        assert not any("motion_modules" in path or "temporal" in path for path in spatial)


def test_applying_twice_changes_nothing(joint_net, tiny):
    patch.set_pairs(joint_net, PAIRS)
    expected, before = tiny.run(joint_net), snapshot(joint_net)
    patch.apply_patch(joint_net)
    patch.initialize_joint_layers(joint_net, "depth", post_rank=4)
    patch.hack_lora_forward(joint_net)
    assert snapshot(joint_net) == before
    assert torch.equal(tiny.run(joint_net), expected)


def test_removing_twice_or_without_a_patch_is_harmless(net):
    before = snapshot(net)
    patch.remove_patch(net)
    patch.apply_patch(net)
    patch.remove_patch(net)
    patch.remove_patch(net)
    assert snapshot(net) == before


def test_a_pipeline_is_accepted(net):
    pipe = DDPMPipeline(net, DDPMScheduler())
    assert patch.apply_patch(pipe) is net
    patch.add_joint(pipe, "depth", rank=2)
    patch.set_pairs(pipe, PAIRS)
    assert patch.remove_patch(pipe) is net


def test_diffusers_sees_the_attention_layers_it_knows(tiny, kind):
    net = tiny.make(kind)
    names = list(net.attn_processors)
    patch.add_joint(net, "depth", rank=2, temporal=True)
    assert list(net.attn_processors) == names


@pytest.mark.parametrize("processor", [AttnProcessor, AttnProcessor2_0])
def test_processors_may_change_after_the_patch(joint_net, tiny, processor):
    patch.set_pairs(joint_net, PAIRS)
    expected = tiny.run(joint_net)
    joint_net.set_attn_processor(processor())
    torch.testing.assert_close(tiny.run(joint_net), expected, atol=1e-5, rtol=1e-5)


def test_attention_slices_agree_with_shared_projections(joint_net, tiny):
    patch.set_pairs(joint_net, PAIRS)
    expected = tiny.run(joint_net)
    joint_net.set_attention_slice(1)
    torch.testing.assert_close(tiny.run(joint_net), expected, atol=1e-5, rtol=1e-5)


def test_attention_slicing_before_the_patch(tiny, net):
    net.set_attention_slice(1)
    base = tiny.run(net)
    patch.add_joint(net, "depth", rank=2)
    patch.set_pairs(net, PAIRS)
    assert torch.equal(tiny.run(net), base)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_users_lora_stays_when_the_patch_goes(tiny, net, when):
    config = LoraConfig(r=2, target_modules=["to_q", "to_out.0", "conv1"], init_lora_weights=False)
    if when == "after":
        patch.add_joint(net, "depth", rank=2)
    torch.manual_seed(5)
    net.add_adapter(config, "style")
    plain = tiny.make("sd")
    torch.manual_seed(5)
    plain.add_adapter(config, "style")
    styled, before = tiny.run(plain), snapshot(plain)
    if when == "before":
        patch.add_joint(net, "depth", rank=2)
    tiny.teach(net, "depth")
    assert torch.equal(tiny.run(net), styled)
    patch.set_pairs(net, PAIRS)
    assert not torch.equal(tiny.run(net), styled)
    patch.remove_patch(net)
    assert torch.equal(tiny.run(net), styled)
    assert list(net.state_dict()) == list(plain.state_dict())
    assert snapshot(net) == before
    assert list(net.peft_config) == ["style"]


def test_a_copy_and_a_pickle_work_alone(joint_net, tiny):
    patch.set_pairs(joint_net, PAIRS)
    expected = tiny.run(joint_net)
    copies = [copy.deepcopy(joint_net), pickle.loads(pickle.dumps(joint_net))]
    patch.remove_patch(joint_net)
    for other in copies:
        assert torch.equal(tiny.run(other), expected)
        patch.set_pairs(other, [(0, 1, "depth"), (2, 3, "depth")])
        assert not torch.equal(tiny.run(other), expected)
        patch.remove_patch(other)
        assert torch.equal(tiny.run(other), tiny.run(joint_net))


def test_save_pretrained_of_a_patched_model_writes_the_base_model(joint_net, tiny, tmp_path):
    keys = list(tiny.make("sd").state_dict())
    for saved in (joint_net, copy.deepcopy(joint_net), pickle.loads(pickle.dumps(joint_net))):
        with torch.no_grad():
            next(saved.parameters()).add_(1.0)
        base = tiny.run(saved)
        saved.save_pretrained(tmp_path)
        loaded = UNet2DConditionModel.from_pretrained(tmp_path).requires_grad_(False)
        assert torch.equal(tiny.run(loaded), base)
        assert list(load_file(tmp_path / "diffusion_pytorch_model.safetensors")) == sorted(keys)
        assert any("lora" in key for key in saved.state_dict())


def test_a_pipeline_saves_a_patched_model_with_its_arguments(joint_net, tmp_path):
    DDPMPipeline(joint_net, DDPMScheduler()).save_pretrained(tmp_path, variant="fp16")
    assert (tmp_path / "unet" / "diffusion_pytorch_model.fp16.safetensors").is_file()


def test_the_state_dict_of_a_patched_model_restores_it(joint_net, tiny):
    patch.set_pairs(joint_net, PAIRS)
    other = tiny.make("sd", seed=3)
    patch.add_joint(other, "depth", rank=2, alpha=3)
    other.load_state_dict(joint_net.state_dict())
    patch.set_pairs(other, PAIRS)
    assert torch.equal(tiny.run(other), tiny.run(joint_net))


def test_sd15_trains_at_most_40_million_parameters_without_a_copy_of_attention():
    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768, sample_size=64)
    total = sum(p.numel() for p in unet.parameters())
    patch.add_joint(unet, "depth", rank=64)
    trained = sum(p.numel() for p in unet.parameters() if p.requires_grad)
    assert trained == sum(p.numel() for p in patch.joint_parameters(unet, "depth")) <= 40e6
    assert sum(p.numel() for p in unet.parameters()) == total + trained


def test_only_the_newest_joint_adapter_is_trainable(joint_net):
    patch.add_joint(joint_net, "edge", rank=2)
    trainable = {id(p) for p in joint_net.parameters() if p.requires_grad}
    assert trainable == {id(p) for p in patch.joint_parameters(joint_net, "edge")}


def test_wrong_use_of_the_surgery_raises_one_sentence(tiny, net):
    with pytest.raises(ValueError, match="UNet2DConditionModel is not patched: call patch.apply_patch first"):
        patch.set_pairs(net, [(0, 1)])
    with pytest.raises(ValueError, match="Linear has no BasicTransformerBlock"):
        patch.apply_patch(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="Expected a model or a pipeline, not str"):
        patch.apply_patch("unet")
    patch.apply_patch(net)
    with pytest.raises(ValueError, match="no joint layers: call patch.initialize_joint_layers"):
        patch.set_joint_attention_mask(net, [1, 0])
    with pytest.raises(ValueError, match="post='full' is unknown: choose one of fuse, conv, conv_fuse, aligned"):
        patch.initialize_joint_layers(net, post="full")
    patch.initialize_joint_layers(net, "depth")
    with pytest.raises(ValueError, match="exists with post='fuse'"):
        patch.initialize_joint_layers(net, "depth", post="conv")
    with pytest.raises(ValueError, match="cannot name an adapter"):
        patch.initialize_joint_layers(net, "a.b")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"rank": 0}, "rank=0 is too small"),
        ({"post_rank": 0}, "post_rank=0 is too small"),
        ({"post": "full"}, "post='full' is unknown"),
    ],
)
def test_a_joint_adapter_that_is_refused_leaves_the_model_alone(net, wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        patch.add_joint(net, "depth", **wrong)
    assert "_duet" not in net.__dict__
