"""Arguments and files from which no right adapter can be made: one sentence, and the model is left alone."""

import json

import pytest
import torch
from peft import LoraConfig
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import patch

ARGUMENTS = {
    "a broken rank": ({"rank": 2.5}, "rank=2.5 is no whole number: choose 1 or more"),
    "rank as text": ({"rank": "4"}, "rank='4' is no whole number"),
    "a broken post_rank": ({"post_rank": 1.5}, "post_rank=1.5 is no whole number"),
    "alpha that is no number": ({"alpha": float("nan")}, "alpha=nan is no finite number"),
    "alpha as text": ({"alpha": "3"}, "alpha='3' is no finite number"),
    "a large dropout": ({"lora_dropout": 2.0}, "lora_dropout=2.0 is no probability: give a number from 0 to below 1"),
    "dropout that is no number": ({"lora_dropout": float("nan")}, "lora_dropout=nan is no probability"),
    "a number as name": ({"name": 3}, "name=3 cannot name an adapter"),
    "no name": ({"name": ""}, "name='' cannot name an adapter"),
    "unknown layers": ({"y_layers": "some"}, "y_layers='some' is unknown"),
}


def untouched(net) -> bool:
    return "_duet" not in net.__dict__ and not hasattr(net, "peft_config")


@pytest.mark.parametrize(("wrong", "sentence"), list(ARGUMENTS.values()), ids=list(ARGUMENTS))
def test_arguments_of_a_joint_adapter(net, wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        patch.add_joint(net, **{"name": "depth", "rank": 2} | wrong)
    assert untouched(net)


def test_a_rank_to_cut_to(joint_net, tiny, tmp_path):
    patch.save(joint_net, tmp_path, "depth")
    net = tiny.make("sd")
    with pytest.raises(ValueError, match="rank=0.5 is no whole number"):
        patch.load(net, tmp_path, "depth", rank=0.5)
    assert untouched(net)


def change_header(path, change):
    tensors, header = load_file(path), dict(safe_open(path, "pt").metadata())
    config = json.loads(header["config"])
    change(config, tensors)
    save_file(tensors, path, metadata=header | {"config": json.dumps(config)})


def drop(tensors, part):
    del tensors[next(key for key in tensors if part in key)]


DAMAGES = {
    "without a matrix": (lambda config, tensors: drop(tensors, "to_k.lora_B"), "damaged: .* of rank 2 and None"),
    "without the other matrix": (
        lambda config, tensors: drop(tensors, "to_k.lora_A"),
        "damaged: .* of rank None and 2",
    ),
    "with another rank": (lambda config, tensors: config["lora"]["xy"].update(r=4), "and rank 4 in the header"),
    "without its post": (lambda config, tensors: config.pop("post"), "has a header without post: copy or download"),
    "without a projection": (lambda config, tensors: drop(tensors, "post."), "is None in the file and"),
}


@pytest.mark.parametrize(("damage", "sentence"), list(DAMAGES.values()), ids=list(DAMAGES))
def test_damaged_files(joint_net, tiny, tmp_path, damage, sentence):
    change_header(patch.save(joint_net, tmp_path, "depth"), damage)
    net = tiny.make("sd")
    with pytest.raises(ValueError, match=sentence):
        patch.load(net, tmp_path, "depth")
    assert untouched(net)


@pytest.mark.parametrize("remove", ["unload_lora", "delete_adapters"])
def test_saving_an_adapter_whose_loras_are_gone(joint_net, tmp_path, remove):
    joint_net.unload_lora() if remove == "unload_lora" else joint_net.delete_adapters("depth_y_lora")
    with pytest.raises(ValueError, match="LoRAs of the joint adapter 'depth' are gone, as after unload_lora"):
        patch.save(joint_net, tmp_path, "depth")
    assert not list(tmp_path.iterdir())


def test_saving_in_a_type_that_holds_no_weights(joint_net, tmp_path):
    with pytest.raises(ValueError, match="dtype=torch.int8 cannot hold weights: choose a floating point type"):
        patch.save(joint_net, tmp_path, "depth", dtype=torch.int8)


def test_a_users_lora_on_the_patch_itself(net, tiny, tmp_path):
    patch.add_joint(net, "depth", rank=2, post="conv")
    net.add_adapter(LoraConfig(r=2, target_modules=["proj"], init_lora_weights=False), "style")
    with pytest.raises(
        ValueError, match="A LoRA sits on .*joint_post.depth_post.proj, an output projection of the patch"
    ):
        patch.save(net, tmp_path, "depth")
    patch.set_pairs(net, [(0, 1, "depth"), (2, 3, "depth")])
    with pytest.raises(ValueError, match="A LoRA sits on"):
        tiny.run(net)
    net.delete_adapters("style")
    tiny.run(net)
    patch.load(tiny.make("sd"), patch.save(net, tmp_path, "depth"))


def test_copies_of_projections_get_no_lora(net, tiny, tmp_path):
    """`fuse_qkv_projections` leaves layers behind that another model of the same kind does not have."""
    net.fuse_qkv_projections()
    net.unfuse_qkv_projections()
    patch.add_joint(net, "depth", rank=2, y_layers="all")
    patch.save(net, tmp_path, "depth")
    patch.load(tiny.make("sd"), tmp_path, "depth")


class TestCasting:
    """`enable_layerwise_casting` stores weights in a smaller type than that of the computation."""

    def test_after_the_patch_is_close_to_the_model_as_it_was(self, joint_net, tiny):
        patch.set_pairs(joint_net, [(0, 2, "depth"), (1, 3, "depth", 0.5)])
        expected = tiny.run(joint_net)
        joint_net.enable_layerwise_casting(storage_dtype=torch.bfloat16, compute_dtype=torch.float32)
        torch.testing.assert_close(tiny.run(joint_net), expected, atol=0.05, rtol=0.05)

    def test_before_the_patch(self, net):
        net.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
        with pytest.raises(ValueError, match="cast layer by layer .* patch it and add its adapters first"):
            patch.add_joint(net, "depth", rank=2)
        assert untouched(net)

    def test_of_a_fused_model(self, joint_net, tiny):
        patch.set_pairs(joint_net, [(0, 2, "depth"), (1, 3, "depth", 0.5)])
        patch.fuse(joint_net)
        joint_net.enable_layerwise_casting(storage_dtype=torch.bfloat16, compute_dtype=torch.float32)
        with pytest.raises(ValueError, match="fused model are cast layer by layer .* call patch.unfuse first"):
            tiny.run(joint_net)
        patch.unfuse(joint_net)
        tiny.run(joint_net)
