"""Results of a training beside what its folder holds."""

import pytest
from safetensors.torch import save_file
from torch import zeros

from utils.training.results import save_parts


def write(folder):
    (folder / "unet").mkdir(parents=True)
    save_file({"a": zeros(1)}, folder / "unet/model.safetensors")
    (folder / "model_index.json").write_text("new")


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_parts_take_the_place_of_earlier_ones_and_all_else_stays(tmp_path):
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet/old.safetensors").write_text("old")
    (tmp_path / "log.jsonl").write_text("mine")
    save_parts(tmp_path, write)
    assert names(tmp_path) == ["log.jsonl", "model_index.json", "unet/model.safetensors"]
    modes = {(tmp_path / name).stat().st_mode & 0o777 for name in names(tmp_path)}
    assert len(modes) == 1


def test_a_failure_leaves_the_earlier_result_whole(tmp_path):
    save_parts(tmp_path, write)
    before = names(tmp_path)

    def fail(folder):
        write(folder)
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        save_parts(tmp_path, fail)
    assert names(tmp_path) == before
