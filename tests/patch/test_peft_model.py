"""A network in a wrapper of `get_peft_model`."""

import pytest
import torch
from peft import LoraConfig, get_peft_model

import patch

PAIRS = [(0, 2, "depth"), (1, 3, "depth", 0.5)]


def style_config(*targets):
    torch.manual_seed(5)
    return LoraConfig(r=2, lora_alpha=3, target_modules=list(targets), init_lora_weights=False)


class TestPeftModel:
    @pytest.fixture
    def wrapped(self, tiny):
        wrapped = get_peft_model(tiny.make("sd"), style_config("to_q", "ff.net.2"), "style")
        patch.add_joint(wrapped, "depth", rank=2)
        tiny.teach(wrapped, "depth")
        patch.set_pairs(wrapped, PAIRS)
        return wrapped

    def test_is_a_wrapper(self, wrapped, tiny, tmp_path):
        patch.save(wrapped, tmp_path, "depth")
        patch.load(tiny.make("sd"), tmp_path, "depth")
        with wrapped.disable_adapter():
            assert torch.equal(tiny.run(wrapped), tiny.run(tiny.make("sd")))
        styled = get_peft_model(tiny.make("sd"), style_config("to_q", "ff.net.2"), "style")
        patch.remove_patch(wrapped)
        assert torch.equal(tiny.run(wrapped), tiny.run(styled))

    @pytest.mark.parametrize("method", ["unload", "merge_and_unload"])
    def test_without_its_loras_is_refused(self, wrapped, tiny, method):
        arguments = {"adapter_names": ["style"]} if method == "merge_and_unload" else {}
        net = getattr(wrapped, method)(**arguments)
        with pytest.raises(ValueError, match="LoRAs of the joint adapter 'depth' are gone"):
            tiny.run(net)

    def test_keeps_its_joint_loras_out_of_the_weights(self, wrapped):
        with pytest.raises(ValueError, match="acts on some rows of the batch only and cannot be merged"):
            wrapped.merge_and_unload()
