"""LoRAs that are cut to a lower rank."""

import pytest
import torch

import patch
from patch.cut import cut_rank
from tests.patch.test_checkpoint import PAIRS

FIELDS = {"r": 8, "lora_alpha": 4, "rank_pattern": {}, "alpha_pattern": {}, "use_dora": False, "use_rslora": False}


def cut(A, B, rank, **fields):
    tensors = {"y_lora.conv.lora_A.weight": A, "y_lora.conv.lora_B.weight": B, "post.attn.up_x.weight": torch.ones(3)}
    return cut_rank({"lora": {"y": FIELDS | fields}}, tensors, rank)


@pytest.mark.parametrize("rank", [6, 4, 2])
def test_no_product_of_that_rank_is_nearer(rank):
    A, B = torch.randn(8, 5, 3, 3), torch.randn(7, 8, 1, 1)
    config, tensors = cut(A, B, rank)
    A_cut, B_cut = (tensors[f"y_lora.conv.lora_{part}.weight"] for part in "AB")
    assert (A_cut.shape, B_cut.shape) == ((rank, 5, 3, 3), (7, rank, 1, 1))
    product = B.flatten(1) @ A.flatten(1)
    missed = torch.linalg.norm(product - B_cut.flatten(1) @ A_cut.flatten(1))
    assert float(missed) == pytest.approx(float(torch.linalg.svdvals(product)[rank:].norm()), abs=1e-4)
    assert config["lora"]["y"]["lora_alpha"] / config["lora"]["y"]["r"] == 0.5
    assert torch.equal(tensors["post.attn.up_x.weight"], torch.ones(3))


def test_a_layer_narrower_than_the_rank_keeps_all_of_its_update():
    A, B = torch.randn(8, 3), torch.randn(7, 8)
    _, tensors = cut(A, B, 5)
    A_cut, B_cut = (tensors[f"y_lora.conv.lora_{part}.weight"] for part in "AB")
    assert (A_cut.shape, B_cut.shape) == ((5, 3), (7, 5))
    torch.testing.assert_close(B_cut @ A_cut, B @ A)


def test_a_lora_of_that_rank_or_less_stays():
    A, B = torch.randn(8, 5), torch.randn(7, 8)
    config, tensors = cut(A, B, 9)
    assert tensors["y_lora.conv.lora_A.weight"] is A
    assert config["lora"]["y"] == FIELDS
    assert (config["rank"], config["alpha"]) == (8, 4)


def test_what_has_no_single_rank_is_refused():
    with pytest.raises(ValueError, match="cannot be cut"):
        cut(torch.randn(8, 5), torch.randn(7, 8), 2, use_dora=True)


@pytest.mark.parametrize("rank", [1, 2])
def test_a_cut_adapter_is_loaded_and_acts_as_its_nearest_one(joint_net, tiny, tmp_path, rank):
    patch.set_pairs(joint_net, PAIRS)
    whole = tiny.run(joint_net, "sd")
    patch.save(joint_net, tmp_path, "depth")
    other = tiny.make("sd")
    config = patch.load(other, tmp_path, rank=rank)
    assert config["rank"] == rank
    patch.set_pairs(other, PAIRS)
    assert torch.allclose(tiny.run(other, "sd"), whole, atol=1e-5) == (rank == 2)


def test_a_rank_below_1_is_refused(joint_net, tiny, tmp_path):
    patch.save(joint_net, tmp_path, "depth")
    with pytest.raises(ValueError, match="rank=0"):
        patch.load(tiny.make("sd"), tmp_path, rank=0)
