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


def test_what_has_not_learned_yet_can_still_learn():
    _, tensors = cut(torch.randn(8, 5), torch.zeros(7, 8), 4)
    A, B = (tensors[f"y_lora.conv.lora_{part}.weight"].requires_grad_() for part in "AB")
    assert (B.abs().max(), A.abs().amax(dim=1).min() > 0) == (0, True)
    (torch.randn(3, 5) @ A.T @ B.T).sum().backward()
    assert B.grad.abs().max() > 0


def test_what_has_no_single_rank_is_refused_where_it_would_be_cut():
    A, B = torch.randn(8, 5), torch.randn(7, 8)
    with pytest.raises(ValueError, match="cannot be cut"):
        cut(A, B, 2, use_dora=True)
    assert cut(A, B, 8, use_dora=True)[0]["lora"]["y"]["use_dora"]


def test_published_fields_and_adapters_without_loras_are_cut_too():
    config, _ = cut_rank({"lora": {"y": {"r": 8, "lora_alpha": 4}}}, {}, 2)
    assert config["lora"]["y"] == {"r": 2, "lora_alpha": 1}
    assert cut_rank({"lora": {}, "rank": None}, {}, 2)[0] == {"lora": {}, "rank": None}


def test_a_cut_that_takes_nothing_away_leaves_what_the_model_draws(joint_net, tiny, tmp_path):
    """Of rank 2 with second rows of zero, cut to rank 1, at a scale that is not 1."""
    with torch.no_grad():
        for name, parameter in joint_net.named_parameters():
            if ".lora_A.depth_" in name:
                parameter[1] = 0
    patch.set_pairs(joint_net, PAIRS)
    whole = tiny.run(joint_net, "sd")
    patch.save(joint_net, tmp_path, "depth")
    other = tiny.make("sd")
    config = patch.load(other, tmp_path, rank=1)
    assert (config["rank"], config["alpha"]) == (1, 1.5)
    patch.set_pairs(other, PAIRS)
    torch.testing.assert_close(tiny.run(other, "sd"), whole, atol=1e-4, rtol=1e-4)


def test_a_rank_below_1_is_refused(joint_net, tiny, tmp_path):
    patch.save(joint_net, tmp_path, "depth")
    with pytest.raises(ValueError, match="rank=0"):
        patch.load(tiny.make("sd"), tmp_path, rank=0)
