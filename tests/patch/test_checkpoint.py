"""A joint adapter in a file, ours and the published form."""

import json
import zlib

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import patch
from patch.post import POSTS

PAIRS = [(0, 2, "depth"), (1, 3, "depth", 0.5, "x_reads_y")]


@pytest.mark.parametrize("post", POSTS)
@pytest.mark.parametrize("kind", ["sd", "sdxl", "svd", "motion", "pixart"])
def test_save_and_load_are_exact_with_an_alpha_of_its_own(tiny, tmp_path, kind, post):
    net = tiny.make(kind)
    patch.add_joint(net, "depth", rank=2, alpha=5, post=post, temporal=kind in ("svd", "motion"))
    tiny.teach(net, "depth")
    patch.set_pairs(net, PAIRS)
    expected = tiny.run(net, kind)
    path = patch.save(net, tmp_path, "depth")
    assert [file.name for file in tmp_path.iterdir()] == ["depth.safetensors"] == [path.name]
    other = tiny.make(kind)
    patch.load(other, tmp_path)
    patch.set_pairs(other, PAIRS)
    assert torch.equal(tiny.run(other, kind), expected)


def test_the_file_holds_exactly_the_adapter(joint_net, tmp_path):
    path = patch.save(joint_net, tmp_path, "depth")
    blocks = [p.removesuffix(".attn1.to_q") for p in patch.joint_lora_targets(joint_net) if p.endswith("to_q")]
    layers = ("to_q", "to_k", "to_v", "to_out.0")
    expected = {
        f"{role}_lora.{block}.{attn}.{layer}.lora_{side}.weight"
        for role, attns in (("xy", ["attn1"]), ("yx", ["attn1"]), ("y", ["attn1", "attn2"]))
        for block in blocks
        for attn in attns
        for layer in layers
        for side in "AB"
    }
    expected |= {f"post.{b}.attn1.{part}.weight" for b in blocks for part in ("down_x", "down_y", "up_x", "up_y")}
    with safe_open(path, "pt") as file:
        assert set(file.keys()) == expected
        config = json.loads(file.metadata()["config"])
    wanted = {"name": "depth", "rank": 2, "alpha": 3, "post": "fuse", "post_rank": 4, "format_version": 1}
    assert {key: config[key] for key in wanted} == wanted


def test_training_arguments_and_the_base_travel_along(joint_net, tmp_path):
    patch.save(joint_net, tmp_path, "depth", base_model="some/base", training={"trigger_word": "depth_map, "})
    config = patch.read_config(tmp_path)
    assert config["base_model"] == "some/base" and config["training"] == {"trigger_word": "depth_map, "}


@pytest.mark.parametrize(("dtype", "error"), [(torch.float16, 1e-3), (torch.float8_e4m3fn, 0.07)])
@pytest.mark.parametrize("rank", [None, 1])
def test_a_file_in_a_smaller_type_takes_less_room_and_is_near_the_weights(
    joint_net, tiny, tmp_path, dtype, error, rank
):
    full = patch.save(joint_net, tmp_path / "full", "depth").stat().st_size
    small = patch.save(joint_net, tmp_path / "small", "depth", dtype=dtype).stat().st_size
    with safe_open(tmp_path / "small" / "depth.safetensors", "pt") as file:
        assert {file.get_tensor(key).dtype for key in file.keys()} == {dtype}  # noqa: SIM118
    assert small < full
    outputs = []
    for folder in ("full", "small"):
        net = tiny.make("sd")
        patch.load(net, tmp_path / folder, rank=rank)
        patch.set_pairs(net, PAIRS)
        outputs.append(tiny.run(net))
    whole, near = outputs
    assert not torch.equal(whole, near)
    assert (whole - near).norm() < error * whole.norm()


def test_a_loaded_adapter_is_frozen_and_may_have_another_name(joint_net, tiny, tmp_path):
    patch.set_pairs(joint_net, PAIRS)
    expected = tiny.run(joint_net)
    patch.save(joint_net, tmp_path, "depth")
    net = tiny.make("sd")
    assert patch.load(net, tmp_path / "depth.safetensors", name="near")["name"] == "near"
    assert not any(p.requires_grad for p in net.parameters())
    patch.set_pairs(net, [(x, y, "near", *rest) for x, y, _, *rest in PAIRS])
    assert torch.equal(tiny.run(net), expected)


def test_several_adapters_share_a_folder_and_a_model(tiny, tmp_path):
    net = tiny.make("sd")
    for seed, name in enumerate(("depth", "edge")):
        patch.add_joint(net, name, rank=2)
        tiny.teach(net, name, seed)
        patch.save(net, tmp_path, name)
    pairs = [(0, 1, "depth"), (0, 2, "edge", 0.5)]
    patch.set_pairs(net, pairs, batch_size=4)
    other = tiny.make("sd")
    patch.load(other, tmp_path, name="edge")
    patch.load(other, tmp_path, name="depth")
    patch.set_pairs(other, pairs, batch_size=4)
    torch.testing.assert_close(tiny.run(other), tiny.run(net), atol=1e-6, rtol=1e-6)
    with pytest.raises(FileNotFoundError, match="holds depth, edge"):
        patch.load(tiny.make("sd"), tmp_path)


def test_adapters_of_the_lab_are_saved_too(tiny, net, tmp_path):
    patch.apply_patch(net)
    patch.initialize_joint_layers(net, post="conv")
    config = patch.adapters.LoraConfig(r=2, lora_alpha=7, target_modules=patch.joint_lora_targets(net))
    net.add_adapter(config, adapter_name="xy_lora")
    tiny.teach(net)
    patch.set_joint_attention_mask(net, [1, 1, 0, 0])
    patch.save(net, tmp_path)
    other = tiny.make("sd")
    patch.load(other, tmp_path)
    patch.set_joint_attention_mask(other, [1, 1, 0, 0])
    assert torch.equal(tiny.run(other), tiny.run(net))


def test_saving_overwrites_only_on_request(joint_net, tmp_path):
    path = patch.save(joint_net, tmp_path, "depth")
    written = path.read_bytes()
    with pytest.raises(FileExistsError, match="exists: choose another folder or name, or pass overwrite=True"):
        patch.save(joint_net, tmp_path, "depth", dtype=torch.float16)
    assert path.read_bytes() == written
    patch.save(joint_net, tmp_path, "depth", dtype=torch.float16, overwrite=True)
    assert path.read_bytes() != written


@pytest.mark.parametrize(
    "changes", [{"cross_attention_dim": 6}, {"block_out_channels": (8, 24)}, {"layers_per_block": 2}]
)
def test_an_adapter_for_another_base_is_refused_and_changes_nothing(joint_net, tiny, tmp_path, changes):
    patch.save(joint_net, tmp_path, "depth", base_model="some/base")
    other = tiny.make("sd", **changes)
    keys = list(other.state_dict())
    with pytest.raises(ValueError, match=r"'depth' was made for another base model \(some/base\)"):
        patch.load(other, tmp_path)
    assert list(other.state_dict()) == keys and "_duet" not in other.__dict__


def test_wrong_files_raise_one_sentence(joint_net, net, tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist: give a folder written by patch.save"):
        patch.load(net, tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match="it holds none"):
        patch.load(net, tmp_path)
    with pytest.raises(ValueError, match="no joint adapter 'edge' to save"):
        patch.save(joint_net, tmp_path, "edge")
    (tmp_path / "half.safetensors").write_bytes(patch.save(joint_net, tmp_path / "whole", "depth").read_bytes()[:100])
    with pytest.raises(ValueError, match="half.safetensors holds no readable weights"):
        patch.load(net, tmp_path)
    (tmp_path / "half.safetensors").unlink()
    net.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="not written by patch.save"):
        patch.load(net, tmp_path)
    patch.save(joint_net, tmp_path / "depth", "depth")
    with pytest.raises(ValueError, match="joint adapter 'depth' already: choose another name"):
        patch.load(joint_net, tmp_path / "depth")


def seeded(key, shape):
    generator = torch.Generator().manual_seed(zlib.crc32(key.encode()))
    values = torch.randn(shape, generator=generator)
    if len(shape) > 1:
        return values / np.prod(shape[1:]) ** 0.5
    return 1 + 0.1 * values if key.endswith("weight") else 0.1 * values


@pytest.fixture
def published(shared_reference, tiny):
    """The base network of the published fixture, its folder, its inputs and outputs."""
    sizes = {"sample_size": 16, "block_out_channels": (32, 64), "cross_attention_dim": 32}
    net = tiny.make("sd", **sizes, attention_head_dim=4, norm_num_groups=8)
    net.load_state_dict({key: seeded(key, value.shape) for key, value in net.state_dict().items()})
    folder = shared_reference / "unicon"
    golden = {key: torch.from_numpy(value) for key, value in np.load(folder / "golden.npz").items()}
    return net, folder / "checkpoint", golden


def run_published(net, golden):
    return net(golden["sample"], golden["timestep"], golden["encoder_hidden_states"]).sample


@torch.no_grad()
def test_the_published_layout_gives_the_published_outputs(published, tmp_path):
    net, folder, golden = published
    torch.testing.assert_close(run_published(net, golden), golden["base"], atol=1e-4, rtol=0)
    patch.load(net, folder, name="depth")
    pairs = [(0, 2, "depth"), (1, 3, "depth")]
    patch.set_pairs(net, pairs)
    joint = run_published(net, golden)
    torch.testing.assert_close(joint, golden["joint_conv_fuse"], atol=1e-4, rtol=0)
    with patch.disabled(net):
        torch.testing.assert_close(run_published(net, golden), golden["separate_conv_fuse"], atol=1e-4, rtol=0)
    patch.save(net, tmp_path, "depth")
    patch.remove_patch(net)
    patch.load(net, tmp_path)
    patch.set_pairs(net, pairs)
    assert torch.equal(run_published(net, golden), joint)


@torch.no_grad()
def test_masks_of_the_lab_load_the_published_weights(published):
    net, folder, golden = published
    patch.load(net, folder)
    x, y = [1, 1, 0, 0], [0, 0, 1, 1]
    patch.set_joint_attention_mask(net, x)
    patch.set_patch_lora_mask(net, "xy_lora", x, kv_mask=x)
    patch.set_patch_lora_mask(net, "yx_lora", y, kv_mask=y)
    patch.set_patch_lora_mask(net, "y_lora", y)
    torch.testing.assert_close(run_published(net, golden), golden["joint_conv_fuse"], atol=1e-4, rtol=0)


@torch.no_grad()
def test_weight_y_zero_keeps_the_part_of_y_in_a_fused_projection(published):
    net, folder, _ = published
    patch.load(net, folder)
    patch.set_pairs(net, [patch.Pair(0, 2, weight_y=0.0), patch.Pair(1, 3, weight_y=0.0)])
    attn = net.mid_block.attentions[0].transformer_blocks[0].attn1
    hidden = torch.randn(4, 6, 64)
    out = attn(hidden)
    patch.set_pairs(net, [(0, 2), (1, 3)])
    torch.testing.assert_close(attn(hidden)[:2], out[:2])
    with patch.disabled(net):
        torch.testing.assert_close(attn(hidden)[2:], out[2:])


def publish(net, folder, metadata):
    """Writes the adapter without a name as UniCon's code does."""
    trained = {}
    for key, tensor in patch.checkpoint.adapter_tensors(net, None).items():
        part, _, rest = key.partition(".")
        if part == "post":
            trained[rest.replace("attn1.proj", "conv1n")] = tensor.detach().clone()
            continue
        rest = rest.replace("attn1.", "attn1n.") if part != "y_lora" else rest
        trained[rest.replace(".weight", f".{part}.weight")] = tensor.detach().clone()
        layers = {".lora_A.": ".lora.down.", ".lora_B.": ".lora.up."}
        side = next(side for side in layers if side in rest)
        path = folder / part / "pytorch_lora_weights.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        known = load_file(path) if path.exists() else {}
        save_file(known | {f"unet.{rest.replace(side, layers[side])}": tensor.detach()}, path, metadata)
    torch.save(trained, folder / "model.pth")


@pytest.mark.parametrize("alpha", [2, 5])
def test_the_published_layout_holds_the_post_type_conv_and_an_alpha(net, tiny, tmp_path, alpha):
    patch.add_joint(net, rank=2, alpha=alpha, post="conv")
    tiny.teach(net)
    x, y = [1, 1, 0, 0], [0, 0, 1, 1]
    for adapter, mask in (("xy_lora", x), ("yx_lora", y)):
        patch.set_patch_lora_mask(net, adapter, mask, kv_mask=mask)
    patch.set_joint_attention_mask(net, x)
    header = {} if alpha == 2 else {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": alpha, "unet.r": 2})}
    publish(net, tmp_path, header)
    other = tiny.make("sd")
    config = patch.load(other, tmp_path)
    assert (config["post"], config["rank"], config["alpha"]) == ("conv", 2, alpha)
    patch.set_joint_attention_mask(other, x)
    assert torch.equal(tiny.run(other), tiny.run(net))


def test_an_unknown_entry_in_a_published_folder_is_named(published, tmp_path):
    _, folder, _ = published
    weights = torch.load(folder / "model.pth", weights_only=True) | {"mid_block.extra.weight": torch.zeros(2)}
    torch.save(weights, tmp_path / "model.pth")
    with pytest.raises(ValueError, match="unknown entry mid_block.extra.weight"):
        patch.load(published[0], tmp_path)
