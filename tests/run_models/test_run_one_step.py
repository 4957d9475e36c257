"""Depth of an image in one step, by the command."""

import json

import pytest

from run_models.run_depth_image import main, parser, with_defaults
from utils.pretrained import shipped
from utils.weights.model_kinds import read_estimator


def test_its_own_adapter_is_the_default_and_another_one_is_kept():
    single = with_defaults(parser().parse_args(["--output_dir", "out", "--mode", "one_step", "--image", "a.png"]))
    assert read_estimator(single.adapter[0])["condition"] == "depth"
    given = shipped("depth_image/depth.safetensors")
    asked = ["--output_dir", "out", "--mode", "one_step", "--image", "a.png", "--adapter", given]
    assert with_defaults(parser().parse_args(asked)).adapter == [given]


@pytest.mark.parametrize("trained", [False, True])
def test_depth_is_estimated_in_one_step(folders, cut_out, tmp_path, trained):
    adapter = folders.estimator if trained else folders.adapters / "depth.safetensors"
    fixed = [
        "--mode",
        "one_step",
        "--image",
        str(cut_out),
        "--adapter",
        str(adapter),
        "--output_dir",
        str(tmp_path / "o"),
    ]
    folder = main([*fixed, "--pretrained_model_name_or_path", str(folders.model)])
    record = json.loads((folder / "run.json").read_text())
    assert record["files"] == ["00_image.png", "00_depth.png", "00_depth_16bit.png", "00_side_by_side.png"]
    assert (record["width"], record["height"]) == (32, 48)


def test_modes_and_adapters_of_one_step_are_told_apart_before_a_model_is_loaded(cut_out, folders, tmp_path):
    fixed = ["--pretrained_model_name_or_path", "missing", "--output_dir", str(tmp_path / "out")]
    for more, sentence in (
        (["--mode", "joint", "--adapter", folders.estimator], "in one step and samples nothing: pass --mode one_step"),
        (["--mode", "one_step"], "--mode one_step needs --image"),
        (["--mode", "one_step", "--image", cut_out, "--seed", 3], "--seed applies to --mode joint, image_to_depth"),
        (
            ["--mode", "one_step", "--image", cut_out, "--adapter"]
            + [folders.adapters / f"{name}.safetensors" for name in ("depth", "edge")],
            "estimates one condition, but --adapter has depth, edge: pass one",
        ),
    ):
        with pytest.raises(ValueError, match=sentence):
            main([*fixed, *map(str, more)])
