"""Checkpoints find their configuration."""

import pytest
import torch
from safetensors.torch import save_file

from benchmarks.seeded_unimatch import make_model
from unimatch import CHECKPOINTS, CONFIGURATIONS, load_unimatch


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_published_checkpoint_builds_its_own_network(tmp_path, name):
    model = make_model(name)
    torch.save({"model": model.state_dict(), "step": 3}, tmp_path / "weights.pth")
    loaded = load_unimatch(tmp_path / "weights.pth")
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert all((loaded.state_dict()[key] == value).all() for key, value in model.state_dict().items())
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_safetensors_load_and_take_a_type(tmp_path):
    save_file(make_model("scale1").state_dict(), tmp_path / "weights.safetensors")
    assert load_unimatch(tmp_path / "weights.safetensors", dtype=torch.bfloat16).dtype == torch.bfloat16


def test_every_released_file_names_a_configuration():
    assert set(CHECKPOINTS.values()) == set(CONFIGURATIONS)


def test_files_of_something_else_are_named(tmp_path):
    weights = make_model("scale1").state_dict()
    torch.save({"model": weights | {"refine.extra": torch.zeros(1)}}, tmp_path / "more.pth")
    torch.save({"model": {k: v for k, v in weights.items() if k != "backbone.conv1.weight"}}, tmp_path / "less.pth")
    torch.save({"model": weights | {"backbone.conv1.weight": torch.zeros(1)}}, tmp_path / "shape.pth")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(ValueError, match="has refine.extra"):
        load_unimatch(tmp_path / "more.pth")
    with pytest.raises(ValueError, match="lacks backbone.conv1.weight"):
        load_unimatch(tmp_path / "less.pth")
    with pytest.raises(ValueError, match=r"backbone.conv1.weight is \(1,\)"):
        load_unimatch(tmp_path / "shape.pth")
    with pytest.raises(ValueError, match="text.pth cannot be read as a checkpoint of UniMatch: pass a file of tensors"):
        load_unimatch(tmp_path / "text.pth")
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        load_unimatch(tmp_path / "none.pth")
