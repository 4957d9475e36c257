"""Fingerprints tell values from files, and a changed value from an equal one."""

import json

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from benchmarks.fingerprints import COMMANDS, compare, hash_values, main, results


def test_equal_values_have_one_hash_whatever_the_file_says_beside_them(tmp_path):
    weights = {"a": np.ones(3, np.float32), "b": np.zeros(2, np.float32)}
    save_file(weights, tmp_path / "one.safetensors", metadata={"note": "first"})
    save_file(weights, tmp_path / "two.safetensors", metadata={"note": "second"})
    save_file(weights | {"a": np.full(3, 1.0001, np.float32)}, tmp_path / "three.safetensors")
    one, two, three = (hash_values(tmp_path / f"{name}.safetensors") for name in ("one", "two", "three"))
    assert one == two != three


def test_a_log_is_compared_without_its_seconds(tmp_path):
    for name, seconds, loss in (("a", 1, 0.5), ("b", 2, 0.5), ("c", 1, 0.6)):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"step": 1, "loss": loss, "seconds": seconds}) + "\n")
    a, b, c = (hash_values(tmp_path / f"{name}.jsonl") for name in "abc")
    assert a == b != c


def test_checkpoints_and_loss_plots_are_left_out(tmp_path):
    (tmp_path / "checkpoint-3").mkdir()
    for name in ("image.png", "loss.png", "checkpoint-3/image.png"):
        Image.new("RGB", (2, 2)).save(tmp_path / name)
    assert results(tmp_path) == [tmp_path / "image.png"]


def test_a_comparison_names_files_that_changed_and_files_of_one_side():
    before = {"run": {"same": "1", "changed": "2", "gone": "3"}}
    after = {"run": {"same": "1", "changed": "4", "new": "5"}}
    assert compare(before, after) == ["run: 1 of 4 files equal, differing: changed, gone, new"]


def test_an_unknown_command_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--output_path", str(tmp_path / "out.json"), "--commands", "run_nothing"])
    assert "run_nothing" in capsys.readouterr().err
    assert "run_svd" in COMMANDS
