"""The script that draws pairs: its files, its record, its refusals."""

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
from run_models.run_depth_image import PROMPT, main, parser, with_defaults
from utils.depth import normalize_disparity, read_disparity, write_depth
from utils.scenes import render, sample_scene

REPOSITORY = Path(__file__).resolve().parent.parent.parent


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
