"""What a mask or a weight may be: finite numbers in one list, and for the joint attention 1 or 0."""

import numpy
import pytest
import torch

import patch

WRONG_MASKS = {
    "text": "10",
    "texts": ["1", "0"],
    "nested": [[1, 0]],
    "a matrix": torch.ones(2, 1),
    "one number": 1,
    "a number's tensor": torch.tensor(1.0),
    "not a number": [1, float("nan")],
    "infinite": torch.tensor([1.0, float("inf")]),
    "a hole": [1, None],
    "complex": [1j, 0],
    "by place": {0: 1, 1: 0},
    "no order": {1, 0},
    "empty": [],
}


@pytest.mark.parametrize("mask", list(WRONG_MASKS.values()), ids=list(WRONG_MASKS))
def test_masks_that_say_nothing_raise_one_sentence(lab_net, mask):
    with pytest.raises(ValueError, match="(?s)^The joint attention mask is .*: give a list with one finite number for"):
        patch.set_joint_attention_mask(lab_net, mask)
    with pytest.raises(
        ValueError, match="(?s)^The mask of 'y_lora' is .*: give a list with one finite number for each"
    ):
        patch.set_patch_lora_mask(lab_net, "y_lora", mask)
    with pytest.raises(ValueError, match="(?s)^The kv_mask of 'xy_lora' is .*: give a list with one finite number for"):
        patch.set_patch_lora_mask(lab_net, "xy_lora", [1, 0], kv_mask=mask)
    assert not patch.get_pairs(lab_net) and lab_net._duet.state.idle


@pytest.mark.parametrize("mask", [[2, 0], [1, -1], [0.5, 0], [True, 2.0], torch.tensor([3, 0])], ids=str)
def test_a_joint_attention_mask_says_x_or_y(lab_net, mask):
    with pytest.raises(ValueError, match=r"The joint attention mask \[.*\] has other entries than 0 and 1: give 1"):
        patch.set_joint_attention_mask(lab_net, mask)


@pytest.mark.parametrize(
    "mask",
    [(1, 0), [True, False], [1.0, 0.0], torch.tensor([1, 0]), torch.tensor([True, False]), numpy.array([1, 0]),
     numpy.array([True, False]), [numpy.float32(1), torch.tensor(0)]],
    ids=repr,
)  # fmt: skip
def test_masks_of_every_kind_are_taken(lab_net, mask):
    patch.set_joint_attention_mask(lab_net, mask)
    assert [(pair.x, pair.y) for pair in patch.get_pairs(lab_net)] == [(0, 1)]
    patch.set_patch_lora_mask(lab_net, "y_lora", mask)
    assert lab_net._duet.settings.masks["y_lora"].rows == (1.0, 0.0)


@pytest.mark.parametrize("weight", ["0.5", float("nan"), float("inf"), None, [1.0], 1j], ids=repr)
def test_pair_weights_that_say_nothing_raise_one_sentence(joint_net, weight):
    with pytest.raises(ValueError, match="A pair's weight is a finite number or a tensor with one element, not"):
        patch.set_pairs(joint_net, [(0, 1, "depth", weight)])
    patch.set_pairs(joint_net, [(0, 1, "depth")])
    with pytest.raises(ValueError, match="A pair's weight is a finite number"):
        patch.set_pair_weights(joint_net, [weight])
