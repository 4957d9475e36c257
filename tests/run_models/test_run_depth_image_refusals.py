"""What the script that draws pairs refuses, and its depth of videos."""

import numpy as np
import pytest
from PIL import Image

from run_models import run_depth_image
from utils.video import write_video


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--mode", "image_to_depth"], "needs --image"),
        (["--mode", "depth_to_image"], "needs --depth"),
        (["--mode", "coarse"], "needs --image, --depth or --condition"),
        (["--mode", "joint", "--image", "dog.png"], "--image applies to --mode image_to_depth, coarse and one_step"),
        (["--mode", "image_to_depth", "--image", "dog.png", "--depth", "d.png"], "--depth applies to --mode depth_to_"),
        (
            ["--mode", "joint", "--strength", "0.2"],
            "--strength applies to --mode coarse; remove it or change --mode joint",
        ),
        (["--mode", "image_to_depth", "--image", "nothing.png"], "There is no image nothing.png"),
        (
            ["--mode", "depth_to_image", "--condition", "normal=n.png"],
            "--condition normal has no adapter of that name: --adapter has depth",
        ),
        (
            ["--mode", "coarse", "--image", "a.png", "--condition_strength", "0.5"],
            "--condition_strength 0.5 needs --depth or --condition: pass that, or remove it",
        ),
        (["--mode", "coarse", "--image", "a.png", "--depth_kind", "metres"], "--depth_kind metres needs --depth or"),
        (
            ["--mode", "coarse", "--depth", "a.png", "--condition_strength", "0.5", "--strength", "0.6"],
            "--strength 0.6 needs --image",
        ),
        (
            ["--mode", "image_to_depth", "--image", "a.png", "--guidance_scale", "7"],
            "--guidance_scale 7 needs --prompt",
        ),
        (["--negative_prompt", "fog", "--guidance_scale", "1"], "--negative_prompt fog needs --guidance_scale above 1"),
        (
            ["--mode", "depth_to_image", "--depth", "a.png", "--condition", "depth=b.png"],
            "a.png and b.png are both passed as the condition depth: pass one of them",
        ),
        (
            ["--mode", "depth_to_image", "--condition", "depth=a.png", "depth=a.png"],
            "a.png and a.png are both passed as the condition depth",
        ),
        (["--scheduler", "Nothing"], "no scheduler Nothing"),
        (["--scheduler", "FlowMatchEulerDiscrete"], "--scheduler FlowMatchEulerDiscrete cannot sample .*: pass DDIM"),
        (["--scheduler", "VQDiffusion"], "--scheduler VQDiffusion cannot sample"),
        (["--num_inference_steps", "1001"], "--num_inference_steps 1001 is more than the 1000 noise levels of"),
        (["--height", "30"], "--height 30 is not a multiple of 4, as the model needs: pass 32, say"),
        (["--width", "1"], "--width 1 is not a multiple of 4, as the model needs: pass 4, say"),
        (["--device", "banana"], "--device banana is not available here"),
    ],
)
def test_wrong_arguments_are_refused_in_a_sentence(run, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.setattr("run_models.run_depth_image.load_joint", lambda *values: pytest.fail("loaded"))
    with pytest.raises((ValueError, OSError), match=sentence):
        run(*arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flag", "value", "sentence"),
    [
        ("--height", "-32", "-32 is not positive"),
        ("--num_images_per_prompt", "0", "0 is not positive"),
        ("--guidance_scale", "nan", "nan is not a finite number"),
        ("--condition_guidance_scale", "inf", "inf is not a finite number"),
        ("--strength", "1.5", "1.5 is not between 0 and 1"),
        ("--strength", "nan", "nan is not between 0 and 1"),
        ("--condition", "depth.png", "'depth.png' is not of the form NAME=FILE"),
        ("--condition", "depth=", "'depth=' is not of the form NAME=FILE"),
        ("--adapter", "=depth.safetensors", "'=depth.safetensors' is not of the form NAME=FILE"),
        ("--adapter", "", "'' is empty: pass the name of a file or folder"),
        ("--depth", " ", "' ' is empty: pass the name of a file or folder"),
        ("--output_dir", "", "'' is empty: pass the name of a file or folder"),
    ],
)
def test_numbers_out_of_their_range_are_refused_with_their_flag(run, capsys, flag, value, sentence):
    with pytest.raises(SystemExit):
        run(flag, value)
    assert f"argument {flag}: {sentence}" in capsys.readouterr().err


def test_an_output_folder_that_cannot_be_made_is_refused_before_any_work(run, tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(FileExistsError, match="file is a file; choose another folder"):
            run("--adapter", "missing", output_dir=folder)


def test_a_record_that_cannot_be_read_is_kept(run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.json").write_text("{")
    with pytest.raises(ValueError, match="run.json is no record of a run"):
        run("--adapter", "missing", "--overwrite")
    assert (tmp_path / "out" / "run.json").read_text() == "{"


def test_a_video_gets_its_depth_frame_by_frame(run, tmp_path):
    write_video(tmp_path / "clip.mp4", np.random.default_rng(0).integers(0, 256, (3, 40, 32, 3), dtype=np.uint8), 6)
    record = run("--mode", "image_to_depth", "--video", tmp_path / "clip.mp4", "--height", "32", "--width", "32")
    assert (record["width"], record["height"]) == (32, 32)
    assert record["files"][:2] == ["depth.mp4", "side_by_side.mp4"] and len(record["files"]) == 5
    with pytest.raises(ValueError, match="pass one of them"):
        run("--mode", "image_to_depth", "--video", tmp_path / "clip.mp4", "--image", "a.png")
    with pytest.raises(ValueError, match="--num_images_per_prompt 2 does not apply to --video"):
        run("--mode", "image_to_depth", "--video", tmp_path / "clip.mp4", "--num_images_per_prompt", "2")
    with pytest.raises(ValueError, match="--video applies to --mode image_to_depth"):
        run("--mode", "joint", "--video", tmp_path / "clip.mp4")


def test_a_folder_of_frames_is_a_video_and_a_photograph_is_doubted_before_it_is_sampled(run, tmp_path, monkeypatch):
    (tmp_path / "frames").mkdir()
    for k in range(2):
        Image.new("RGB", (32, 32), (80 * k, 0, 0)).save(tmp_path / f"frames/{k}.png")
    said, sample = [], run_depth_image.sample_clip_depth
    monkeypatch.setattr(run_depth_image, "warn_of_photograph", lambda *values: said.append("doubt"))
    keep = lambda *v, **o: (said.append("sampled"), sample(*v, **o))[1]
    monkeypatch.setattr(run_depth_image, "sample_clip_depth", keep)
    record = run("--mode", "image_to_depth", "--video", tmp_path / "frames")
    assert "depth_001_16bit.png" in record["files"] and said == ["doubt", "sampled"]


def test_what_cannot_be_a_video_or_has_no_depth_is_refused_before_anything_is_loaded(run, tmp_path, monkeypatch):
    monkeypatch.setattr(run_depth_image, "load_joint", lambda *values: pytest.fail("loaded"))
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty").mkdir()
    for name, sentence in (("text.mp4", "cannot be read"), ("empty", "has no frame"), ("none", "neither a video nor")):
        with pytest.raises((ValueError, FileNotFoundError), match=sentence):
            run("--mode", "image_to_depth", "--video", tmp_path / name)
    for adapters in (("edge",), ("depth", "edge")):
        with pytest.raises(ValueError, match="--video takes depth alone, and --adapter has .*edge: pass one called"):
            run("--mode", "image_to_depth", "--video", tmp_path / "text.mp4", adapters=adapters)


@pytest.mark.parametrize("size", [(500, 1), (1, 500), (300, 32)])
def test_an_image_of_a_long_shape_asks_for_both_sides(run, tmp_path, size):
    Image.new("RGB", size).save(tmp_path / "long.png")
    given = ["--mode", "image_to_depth", "--image", tmp_path / "long.png"]
    for sides in ([], ["--height", 32]):
        with pytest.raises(ValueError, match=f"{size[0]}x{size[1]} pixels, .*: pass --height and --width"):
            run(*given, *sides)
    assert run(*given, "--height", 32, "--width", 32)["width"] == 32
