"""Depth of an image in one step, by the command."""

import json

import numpy as np
import pytest

from run_models.run_depth_image import main, parser, with_defaults
from tests.flags import flags
from utils.pretrained import shipped
from utils.video import write_video
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


def test_a_video_is_estimated_frame_by_frame(folders, tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    write_video(tmp_path / "clip.mp4", frames, 6)
    values = {"mode": "one_step", "video": tmp_path / "clip.mp4", "adapter": folders.estimator}
    out = [
        main(flags(**values, pretrained_model_name_or_path=folders.model, output_dir=tmp_path / name)) for name in "ab"
    ]
    names = [f"depth_{k:03}_16bit.png" for k in range(3)]
    assert json.loads((out[0] / "run.json").read_text())["files"] == ["depth.mp4", "side_by_side.mp4", *names]
    assert all((out[0] / name).read_bytes() == (out[1] / name).read_bytes() for name in names)


def test_modes_and_adapters_of_one_step_are_told_apart_before_a_model_is_loaded(cut_out, folders, tmp_path):
    fixed = ["--pretrained_model_name_or_path", "missing", "--output_dir", str(tmp_path / "out")]
    for more, sentence in (
        (["--mode", "joint", "--adapter", folders.estimator], "in one step and samples nothing: pass --mode one_step"),
        (["--mode", "one_step"], "--mode one_step needs --image or --video"),
        (
            ["--mode", "one_step", "--image", cut_out, "--adapter", folders.estimator, "--trigger_word", "far"],
            "--trigger_word 'far': a LoRA that estimates reads no prompt; remove it",
        ),
        (["--mode", "one_step", "--image", cut_out, "--seed", 3], "--seed applies to --mode joint, image_to_depth"),
        (
            ["--mode", "one_step", "--image", cut_out, "--adapter"]
            + [folders.adapters / f"{name}.safetensors" for name in ("depth", "edge")],
            "estimates one condition, but --adapter has depth, edge: pass one",
        ),
    ):
        with pytest.raises(ValueError, match=sentence):
            main([*fixed, *map(str, more)])
