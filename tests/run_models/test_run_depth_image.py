"""The script that draws pairs: its files, its record, its refusals."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pipelines.image_pairs import read_condition
from run_models import run_depth_image
from run_models.run_depth_image import PROMPT, main, parser, with_defaults
from utils.depth import normalize_disparity, read_disparity, write_depth
from utils.scenes import render, sample_scene
from utils.video import write_video

REPOSITORY = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def run(folders, tmp_path):
    """Runs the script on the tiny model and returns its record."""

    def call(*arguments, output_dir=tmp_path / "out", adapters=("depth",)):
        files = [str(folders.adapters / f"{name}.safetensors") for name in adapters]
        fixed = ["--pretrained_model_name_or_path", str(folders.model), "--adapter", *files]
        fixed += ["--output_dir", str(output_dir), "--num_inference_steps", "2"]
        return json.loads((main([*fixed, *map(str, arguments)]) / "run.json").read_text())

    return call


@pytest.fixture(params=[np.uint8, np.uint16])
def depth(tmp_path, request):
    top = np.iinfo(request.param).max
    values = np.linspace(0, top, 32 * 32).reshape(32, 32).astype(request.param)
    cv2.imwrite(str(tmp_path / "depth.png"), values)
    return tmp_path / "depth.png"


def test_joint_draws_four_pairs_and_says_where(run, tmp_path, capsys):
    record = run("--mode", "joint")
    assert str(tmp_path / "out") in capsys.readouterr().out
    assert len(record["files"]) == 16
    for name in record["files"]:
        Image.open(tmp_path / "out" / name).verify()
    assert not list((tmp_path / "out").glob(".tmp*"))
    assert Image.open(tmp_path / "out" / "00_side_by_side.png").size == (64, 32)
    assert record["arguments"]["mode"] == "joint"
    assert record["arguments"]["prompt"] == PROMPT and record["arguments"]["num_images_per_prompt"] == 4


def test_the_seed_decides_the_images(run, tmp_path):
    pictures = []
    for i, seed in enumerate((1, 1, 2)):
        run("--seed", seed, output_dir=tmp_path / str(i))
        pictures.append((tmp_path / str(i) / "00_side_by_side.png").read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]


def test_image_to_depth_keeps_the_shape_of_the_image_and_says_that_it_is_resized(run, cut_out, tmp_path, capsys):
    record = run("--mode", "image_to_depth", "--image", cut_out)
    assert f"{cut_out}: 40x60 pixels are resized and cropped to 32x48." in capsys.readouterr().out
    assert (record["width"], record["height"]) == (32, 48)
    shown = np.asarray(Image.open(tmp_path / "out" / "00_image.png"))
    assert (shown[:22] == 255).all()  # transparent parts are white


def test_depth_to_image_writes_the_given_depth_in_16_bits(run, depth, tmp_path):
    run("--mode", "depth_to_image", "--depth", depth, "--prompt", "a cube")
    given = read_disparity(depth, "disparity")
    kept = read_disparity(tmp_path / "out" / "00_depth_16bit.png", "disparity")
    np.testing.assert_allclose(kept, given, atol=2e-5)


def test_coarse_starts_from_either_side_or_both(run, depth, cut_out):
    for arguments in (["--depth", depth], ["--image", cut_out], ["--depth", depth, "--image", cut_out]):
        size = ["--height", 32, "--width", 32]
        record = run("--mode", "coarse", "--strength", 0.5, *arguments, *size, "--overwrite")
        assert (record["width"], record["height"]) == (32, 32)


def test_several_adapters_with_a_condition_each(run, depth):
    files = ["--condition", f"depth={depth}", f"edge={depth}"]
    record = run("--mode", "depth_to_image", *files, adapters=("depth", "edge"))
    assert "00_edge.png" in record["files"]


@pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")
@pytest.mark.parametrize("scheduler", ["UniPCMultistepScheduler", "EulerAncestralDiscrete"])
def test_the_scheduler_can_be_chosen(run, scheduler):
    assert run("--scheduler", scheduler, "--dtype", "bfloat16")["files"]


def test_a_folder_with_content_is_kept_without_overwrite(run, tmp_path):
    run()
    (tmp_path / "out" / "mine.txt").write_text("kept")
    before = sorted((tmp_path / "out").iterdir())
    with pytest.raises(FileExistsError, match="--overwrite"):
        run()
    assert sorted((tmp_path / "out").iterdir()) == before
    run("--num_images_per_prompt", 1, "--overwrite")
    left = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert [name for name in left if name.startswith("01")] == []
    assert "mine.txt" in left


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


def test_an_adapter_without_a_name_is_asked_for_one(run, depth, shared_reference):
    with pytest.raises(ValueError, match="no name of its own: pass --adapter NAME="):
        run("--adapter", shared_reference / "unicon" / "checkpoint", "--mode", "depth_to_image", "--depth", depth)


def test_the_path_of_an_adapter_may_hold_an_equals_sign(run, folders, tmp_path):
    shutil.copytree(folders.adapters, tmp_path / "lr=1e-4")
    assert "00_depth.png" in run("--adapter", tmp_path / "lr=1e-4" / "depth.safetensors")["files"]


def test_two_adapters_of_one_name_are_refused(run, folders, tmp_path):
    shutil.copytree(folders.adapters, tmp_path / "again")
    with pytest.raises(ValueError, match="are both called depth: pass NAME="):
        run("--adapter", folders.adapters / "depth.safetensors", tmp_path / "again/depth.safetensors")


def test_one_image_is_singular_and_the_record_says_what_made_it(run, tmp_path, folders, capsys):
    record = run("--num_images_per_prompt", 1, "--seed", 5)
    assert "1 image with depth in " in capsys.readouterr().out
    assert record["seed"] == 5 and "--seed 5" in record["command"]
    assert record["weights"].keys() == {str(folders.model), str(folders.adapters / "depth.safetensors")}
    assert record["files"] == ["00_image.png", "00_depth.png", "00_depth_16bit.png", "00_side_by_side.png"]


def test_a_photograph_for_the_small_model_is_warned_of_and_a_scene_is_not(shared_media, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("utils.messages.notices._said", set())
    Image.fromarray(render(sample_scene(3_000_007)).image).save(tmp_path / "scene.png")
    fixed = ["--mode=image_to_depth", "--num_inference_steps=1", f"--output_dir={tmp_path / 'out'}", "--overwrite"]
    main([*fixed, f"--image={tmp_path / 'scene.png'}"])
    assert "does not look like" not in capsys.readouterr().err
    main([*fixed, f"--image={shared_media / 'bench_dog.png'}"])
    said = [line for line in capsys.readouterr().err.splitlines() if "does not look like" in line]
    assert len(said) == 1
    assert "bench_dog.png" in said[0] and "--pretrained_model_name_or_path stable-diffusion-v1-5/" in said[0]


def test_a_folder_of_several_adapters_asks_for_one(run, folders):
    with pytest.raises(ValueError, match="several adapters: pass the file of one, or NAME=.*, NAME depth or edge"):
        run("--adapter", folders.adapters)
    assert "00_edge.png" in run("--adapter", f"edge={folders.adapters}")["files"]


def test_a_missing_model_is_refused(run, tmp_path):
    with pytest.raises(FileNotFoundError, match="neither a model folder nor"):
        run("--pretrained_model_name_or_path", tmp_path / "x")


def test_a_missing_adapter_is_refused(run, tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        run("--adapter", tmp_path / "x")


def test_an_adapter_can_be_renamed(run, depth, folders):
    record = run(
        "--adapter",
        f"near={folders.adapters / 'depth.safetensors'}",
        "--mode",
        "depth_to_image",
        "--condition",
        f"near={depth}",
    )
    assert "00_near.png" in record["files"]


def test_it_runs_from_the_clone_and_refuses_with_one_line(tmp_path):
    command = [sys.executable, "run_models/run_depth_image.py", "--mode", "coarse", "--output_dir", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}  # as an editable install does
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("error: --mode coarse needs")


def test_the_defaults_are_the_embedded_model():
    arguments = with_defaults(parser().parse_args(["--output_dir", "out"]))
    assert arguments.mode == "joint"
    assert arguments.pretrained_model_name_or_path.endswith("weights/tiny_sd")
    assert arguments.adapter[0].endswith("weights/depth_image/depth.safetensors")


def test_depth_says_what_it_holds_and_a_silent_file_is_reported(tmp_path, capsys):
    metres = np.random.default_rng(0).uniform(1, 9, (6, 8))
    write_depth(tmp_path / "a.png", metres)
    Image.fromarray(np.asarray(Image.open(tmp_path / "a.png"))).save(tmp_path / "silent.png")
    nearness = normalize_disparity(1 / metres)
    assert np.allclose(read_condition(tmp_path / "a.png", None), nearness, atol=1e-2)
    assert np.allclose(read_condition(tmp_path / "silent.png", "metres"), nearness, atol=1e-2)
    assert capsys.readouterr().err == ""
    assert np.corrcoef(read_condition(tmp_path / "silent.png", None).flatten(), nearness.flatten())[0, 1] < -0.5
    [line] = capsys.readouterr().err.splitlines()
    assert "silent.png does not say what it holds and is read as disparity" in line and "--depth_kind metres" in line


def test_a_video_gets_its_depth_frame_by_frame(run, tmp_path):
    write_video(tmp_path / "clip.mp4", np.random.default_rng(0).integers(0, 256, (3, 40, 32, 3), dtype=np.uint8), 6)
    record = run("--mode", "image_to_depth", "--video", tmp_path / "clip.mp4", "--height", "32", "--width", "32")
    assert (record["width"], record["height"]) == (32, 32)
    assert record["files"][:2] == ["depth.mp4", "side_by_side.mp4"] and len(record["files"]) == 5
    with pytest.raises(ValueError, match="depth is sampled of one of them, remove one"):
        run("--mode", "image_to_depth", "--video", tmp_path / "clip.mp4", "--image", "a.png")
    with pytest.raises(ValueError, match="--num_images_per_prompt 2 does not apply to --video"):
        run("--mode", "image_to_depth", "--video", tmp_path / "clip.mp4", "--num_images_per_prompt", "2")
    with pytest.raises(ValueError, match="--video applies to --mode image_to_depth"):
        run("--mode", "joint", "--video", tmp_path / "clip.mp4")


def test_a_folder_of_frames_is_a_video_and_a_photograph_is_doubted_before_it_is_sampled(run, tmp_path, monkeypatch):
    (tmp_path / "frames").mkdir()
    for k in range(2):
        Image.new("RGB", (32, 32), (80 * k, 0, 0)).save(tmp_path / f"frames/{k}.png")
    said, sample = [], run_depth_image.estimate_clip
    monkeypatch.setattr(run_depth_image, "warn_of_photograph", lambda *values: said.append("doubt"))
    monkeypatch.setattr(run_depth_image, "estimate_clip", lambda *v, **o: (said.append("sampled"), sample(*v, **o))[1])
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
        with pytest.raises(ValueError, match="--video samples depth alone, and --adapter has .*edge: pass one called"):
            run("--mode", "image_to_depth", "--video", tmp_path / "text.mp4", adapters=adapters)


@pytest.mark.parametrize("size", [(500, 1), (1, 500), (300, 32)])
def test_an_image_of_a_long_shape_asks_for_both_sides(run, tmp_path, size):
    Image.new("RGB", size).save(tmp_path / "long.png")
    given = ["--mode", "image_to_depth", "--image", tmp_path / "long.png"]
    for sides in ([], ["--height", 32]):
        with pytest.raises(ValueError, match=f"{size[0]}x{size[1]} pixels, .*: pass --height and --width"):
            run(*given, *sides)
    assert run(*given, "--height", 32, "--width", 32)["width"] == 32
