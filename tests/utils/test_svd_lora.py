"""LoRA files of a network that diffusers cannot adapt."""

import json

import pytest
import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import patch
from tests.tiny_video_pipeline import tiny_video_pipeline
from utils.peft_utils import get_peft_model_state_dict
from utils.util import load_lora_weights
from utils.weights.lora import LORA_FILE, add_lora, load_lora, lora_targets, save_lora


@pytest.fixture(scope="module")
def inputs():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(*shape, generator=generator) for shape in ((1, 4, 8, 8, 8), (1,), (1, 1, 16), (1, 3))]


def fresh():
    return tiny_video_pipeline().unet


@torch.no_grad()
def output(unet, inputs):
    return unet(*inputs).sample


@torch.no_grad()
def randomise(parameters, seed=1):
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters:
        parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))


def trained(name="default", targets="temporal", seed=1):
    unet = fresh()
    randomise(add_lora(unet, 2, 6, targets, name), seed)
    return unet


def test_a_new_lora_changes_nothing_and_is_all_that_trains(inputs):
    unet = fresh()
    before = output(unet, inputs)
    parameters = add_lora(unet, 2)
    assert torch.equal(output(unet, inputs), before)
    assert {id(p) for p in unet.parameters() if p.requires_grad} == {id(p) for p in parameters}


def test_saved_and_loaded_it_acts_as_before_with_its_alpha(inputs, tmp_path):
    unet = trained()
    path = save_lora(unet, tmp_path, base_model="base", training={"seed": 3})
    assert path == tmp_path / LORA_FILE
    again = fresh()
    before = output(again, inputs)
    load_lora(again, tmp_path, "mine")
    torch.testing.assert_close(output(again, inputs), output(unet, inputs), rtol=1e-5, atol=1e-5)
    saved = get_peft_model_state_dict(unet, adapter_name="default")
    loaded = get_peft_model_state_dict(again, adapter_name="mine")
    assert all(torch.equal(loaded[key], value) for key, value in saved.items())
    assert not torch.allclose(output(again, inputs), before, atol=1e-4)
    assert again.peft_config["mine"].lora_alpha == 6
    assert not any(p.requires_grad for p in again.parameters())


def test_keys_and_header_are_those_of_diffusers(tmp_path):
    unet = trained()
    path = save_lora(unet, tmp_path, base_model="base")
    layers = lora_targets(fresh(), "temporal")
    assert set(load_file(path)) == {f"unet.{layer}.lora_{part}.weight" for layer in layers for part in "AB"}
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["lora_adapter_metadata"])
        assert json.loads(file.metadata()["config"])["base_model"] == "base"
    assert (header["unet.r"], header["unet.lora_alpha"]) == (2, 6)
    assert set(get_peft_model_state_dict(unet, adapter_name="default")) == {
        key.removeprefix("unet.") for key in load_file(path)
    }


def test_diffusers_reads_a_file_of_ours_and_we_read_one_of_diffusers(tmp_path):
    def tiny():
        torch.manual_seed(0)
        return UNet2DConditionModel(
            sample_size=8, block_out_channels=(8, 16), norm_num_groups=4, layers_per_block=1, cross_attention_dim=8,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), attention_head_dim=2,
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        ).eval()  # fmt: skip

    x = torch.randn(1, 4, 8, 8), torch.tensor([3]), torch.randn(1, 2, 8)
    ours = tiny()
    randomise(add_lora(ours, 2, 6, "spatial"))
    theirs = tiny()
    theirs.load_lora_adapter(load_file(save_lora(ours, tmp_path / "ours")), prefix="unet", metadata=header(tmp_path))
    torch.testing.assert_close(output(theirs, x), output(ours, x))

    theirs = tiny()
    theirs.add_adapter(LoraConfig(r=2, lora_alpha=6, target_modules=["to_q"]), "a")
    randomise(p for name, p in theirs.named_parameters() if "lora" in name)
    theirs.save_lora_adapter(tmp_path / "theirs", "a")
    again = tiny()
    load_lora_weights(again, tmp_path / "theirs", "b")
    torch.testing.assert_close(output(again, x), output(theirs, x))


def header(folder):
    with safe_open(folder / "ours" / LORA_FILE, "pt") as file:
        return json.loads(file.metadata()["lora_adapter_metadata"])


def test_several_loras_act_together(inputs, tmp_path):
    first, second = trained(seed=1), trained(targets="spatial", seed=2)
    save_lora(first, tmp_path / "a")
    save_lora(second, tmp_path / "b")
    save_lora(trained(seed=3), tmp_path / "c")
    forwards, backwards = fresh(), fresh()
    for name in "abc":
        load_lora(forwards, tmp_path / name, name)
    for name in "cba":
        load_lora(backwards, tmp_path / name, name)
    torch.testing.assert_close(output(forwards, inputs), output(backwards, inputs))
    for other in (first, second):
        assert not torch.allclose(output(forwards, inputs), output(other, inputs), atol=1e-4)


def test_a_file_without_the_header_has_the_rank_as_alpha(tmp_path):
    tensors = load_file(save_lora(trained(), tmp_path))
    save_file(tensors, tmp_path / "bare.safetensors")
    unet = fresh()
    load_lora(unet, tmp_path / "bare.safetensors")
    assert (unet.peft_config["default"].r, unet.peft_config["default"].lora_alpha) == (2, 2)


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ("temporal", {"temporal_transformer_blocks"}),
        ("spatial", {"transformer_blocks"}),
        ("all", {"temporal_transformer_blocks", "transformer_blocks"}),
        (r"temporal_res_block\.conv1", {"temporal_res_block"}),
    ],
)
def test_targets_lie_where_their_name_says(targets, expected):
    places = {part for layer in lora_targets(fresh(), targets) for part in layer.split(".")}
    assert places & {"temporal_transformer_blocks", "transformer_blocks", "temporal_res_block"} == expected


def test_what_does_not_fit_is_refused_in_one_sentence_and_leaves_the_network_alone(inputs, tmp_path):
    save_lora(trained(), tmp_path)
    unet = fresh()
    before = output(unet, inputs)
    tensors = load_file(tmp_path / LORA_FILE)
    name = next(iter(tensors))
    save_file({**tensors, name: torch.zeros(2, 7)}, tmp_path / "wide.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    refusals = {"wide": "another network", "other": "is no LoRA", "broken": "no readable weights"}
    for file, message in refusals.items():
        with pytest.raises(ValueError, match=message):
            load_lora(unet, tmp_path / f"{file}.safetensors")
    with pytest.raises(FileNotFoundError, match="There is no LoRA"):
        load_lora(unet, tmp_path / "none")
    assert torch.equal(output(unet, inputs), before)
    with pytest.raises(ValueError, match="No layer is called"):
        add_lora(unet, 2, targets="nowhere")
    with pytest.raises(ValueError, match="no regular expression"):
        add_lora(unet, 2, targets="(")
    with pytest.raises(ValueError, match="There is no adapter 'x'"):
        save_lora(unet, tmp_path, "x")
    load_lora(unet, tmp_path, "a")
    with pytest.raises(ValueError, match="adapter 'a' already"):
        load_lora(unet, tmp_path, "a")


def test_layers_that_have_a_lora_can_get_another(inputs):
    unet = trained()
    before = output(unet, inputs)
    parameters = add_lora(unet, 3, adapter_name="second")
    torch.testing.assert_close(output(unet, inputs), before, rtol=1e-5, atol=1e-5)
    assert {id(p) for p in unet.parameters() if p.requires_grad} == {id(p) for p in parameters}
    assert set(lora_targets(unet, "all")) == set(lora_targets(fresh(), "all"))


def test_damaged_files_leave_the_network_alone(tmp_path):
    path = save_lora(trained(), tmp_path)
    with safe_open(path, "pt") as file:
        header = file.metadata()
    tensors = load_file(path)
    for part in "AB":
        lost = next(name for name in tensors if f"lora_{part}" in name)
        save_file({name: value for name, value in tensors.items() if name != lost}, path, metadata=header)
        unet = fresh()
        with pytest.raises(ValueError, match="is damaged: .* has matrices of rank (2 and None|None and 2)"):
            load_lora(unet, path)
        assert not hasattr(unet, "peft_config")
    header["lora_adapter_metadata"] = header["lora_adapter_metadata"].replace('"unet.r": 2', '"unet.r": 4')
    save_file(tensors, path, metadata=header)
    with pytest.raises(ValueError, match="of rank 2 and 2, and rank 4 in the header"):
        load_lora(fresh(), path)


def test_a_file_without_the_header_may_have_several_ranks(inputs, tmp_path):
    unet = fresh()
    layers = lora_targets(unet)
    ranks = {layers[0]: 3}
    config = LoraConfig(r=2, lora_alpha=2, target_modules=layers, rank_pattern=ranks, alpha_pattern=ranks)
    patch.add_adapter(unet, config)
    randomise(p for name, p in unet.named_parameters() if "lora" in name)
    tensors = load_file(save_lora(unet, tmp_path))
    save_file(tensors, tmp_path / "bare.safetensors")
    again = fresh()
    load_lora(again, tmp_path / "bare.safetensors")
    torch.testing.assert_close(output(again, inputs), output(unet, inputs))


def test_beside_a_joint_adapter_it_acts_on_both_sides_and_leaves_what_trains(inputs, tmp_path):
    save_lora(trained(), tmp_path)
    both = [torch.cat([each, each]) for each in inputs]
    plain = fresh()
    load_lora(plain, tmp_path, "style")
    unet = fresh()
    patch.add_joint(unet, "flow", rank=2)
    trains = [name for name, p in unet.named_parameters() if p.requires_grad]
    load_lora(unet, tmp_path, "style")
    assert [name for name, p in unet.named_parameters() if p.requires_grad] == trains
    patch.set_pairs(unet, [(0, 1, "flow")])
    torch.testing.assert_close(output(unet, both), output(plain, both), rtol=1e-5, atol=1e-5)
    patch.remove_patch(unet)
    torch.testing.assert_close(output(unet, inputs), output(plain, inputs), rtol=1e-5, atol=1e-5)
