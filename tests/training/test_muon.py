"""Muon: which parameters it takes, how long its steps are, and that it resumes exactly."""

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from models.tiny_svd import make_image_encoder
from tests.training_trial import Trial, make_args, whole_and_resumed
from utils.training.loop import fit
from utils.training.muon import RMS, Muon, orthogonalize, split_groups


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv_in = nn.Conv2d(3, 4, 3)
        self.words = nn.Embedding(5, 4)
        self.norm = nn.GroupNorm(2, 4)
        self.middle = nn.Conv3d(4, 6, (3, 1, 1))
        self.linear = nn.Linear(6, 2)
        self.conv_out = nn.Conv2d(4, 3, 3)


def names_of(model, groups, matrices):
    names = {id(p): name for name, p in model.named_parameters()}
    return {names[id(p)] for group in groups if group["matrices"] == matrices for p in group["params"]}


def test_matrices_go_to_muon_and_embeddings_norms_biases_and_end_convolutions_to_adamw():
    model = Network()
    groups = split_groups(model, list(model.parameters()), 1e-3, 2e-3)
    assert names_of(model, groups, True) == {"middle.weight", "linear.weight"}
    assert names_of(model, groups, False) == set(dict(model.named_parameters())) - {"middle.weight", "linear.weight"}
    assert {group["matrices"]: group["lr"] for group in groups} == {True: 2e-3, False: 1e-3}


def test_the_patches_of_an_image_encoder_go_to_adamw():
    model = make_image_encoder()
    found = names_of(model, split_groups(model, list(model.parameters()), 1e-3, 2e-3), True)
    assert not [name for name in found if "embedding" in name]
    assert "visual_projection.weight" in found


def test_lora_matrices_go_to_muon():
    model = inject_adapter_in_model(LoraConfig(r=2, target_modules=["linear"]), Network())
    trained = [p for name, p in model.named_parameters() if "lora" in name]
    groups = split_groups(model, trained, 1e-3, 2e-3)
    assert [len(group["params"]) for group in groups if group["matrices"]] == [2] and len(groups) == 1


def test_a_group_with_a_learning_rate_of_its_own_scales_that_of_its_matrices():
    model = Network()
    groups = split_groups(model, [{"params": list(model.linear.parameters()), "lr": 5e-3}], 1e-3, 2e-3)
    assert {group["matrices"]: group["lr"] for group in groups} == {False: 5e-3, True: pytest.approx(1e-2)}


def test_a_learning_rate_of_0_leaves_the_matrices_theirs():
    model = Network()
    groups = split_groups(model, list(model.parameters()), 0.0, 2e-3)
    assert {group["matrices"]: group["lr"] for group in groups} == {False: 0.0, True: 2e-3}


@pytest.mark.parametrize("shape", [(48, 48), (16, 80), (80, 16), (24, 6, 3, 3)])
def test_an_update_is_as_long_as_adamws_whatever_the_shape(shape):
    torch.manual_seed(0)
    weight = nn.Parameter(torch.zeros(shape))
    weight.grad = torch.randn(shape) * 1e-4
    Muon([{"params": [weight], "matrices": True}], lr=1e-2).step()
    step = weight.detach()
    assert step.pow(2).mean().sqrt().item() == pytest.approx(1e-2 * RMS, rel=0.25)
    assert (step * weight.grad).sum() < 0


def test_orthogonal_matrices_stay_in_direction_and_their_singular_values_come_together():
    torch.manual_seed(0)
    u, v = torch.linalg.qr(torch.randn(2, 12, 12))[0]
    found = orthogonalize((u @ torch.diag(torch.linspace(0.05, 1, 12)) @ v.mT)[None])[0]
    values = u.mT @ found @ v
    assert (values.diag() > 0.6).all() and (values.diag() < 1.3).all()
    assert (values - torch.diag(values.diag())).abs().max() < 0.05


def test_what_is_no_matrix_is_stepped_as_by_adamw():
    torch.manual_seed(0)
    ours, theirs = nn.Parameter(torch.ones(7)), nn.Parameter(torch.ones(7))
    options = {"lr": 1e-2, "betas": (0.8, 0.9), "eps": 1e-6, "weight_decay": 0.1}
    optimizers = Muon([ours], **options), torch.optim.AdamW([theirs], **options)
    for _ in range(5):
        ours.grad = torch.randn(7)
        theirs.grad = ours.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(ours, theirs)


def test_a_run_with_muon_resumes_bit_for_bit(tmp_path):
    flags = ["--optimizer", "muon", "--use_ema", "--checkpointing_steps", 4, "--lr_scheduler", "cosine"]
    whole, resumed, saved = whole_and_resumed(tmp_path, *flags)
    assert torch.equal(resumed.weights(), whole.weights())
    assert torch.equal(saved["resumed"], saved["whole"])
    plain = Trial(tmp_path / "plain", *flags[2:])
    assert not torch.equal(plain.weights(), whole.weights())


def test_eight_bit_adam_and_muon_exclude_each_other(tmp_path):
    args = make_args(tmp_path / "run", "--optimizer", "muon", "--use_8bit_adam")
    with pytest.raises(ValueError, match="--use_8bit_adam needs --optimizer adamw"):
        fit(args, nn.Linear(2, 2), [0], lambda model, batch: model.weight.sum())
