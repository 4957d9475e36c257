"""Folders of results, and the record of what made them."""

import hashlib
import json

import pytest
from PIL import Image

from utils.commands.results import (
    Run,
    check_output_dir,
    check_output_file,
    foreign_files,
    hash_content,
    hash_weights,
    last_files,
    remove_last_run,
    write_png,
)
from utils.messages.words import count
from utils.pretrained import shipped


def test_a_record_says_command_arguments_seed_files_time_weights_and_versions(tmp_path):
    weights = tmp_path / "a.safetensors"
    weights.write_bytes(b"weights")
    run = Run.start(["--seed", "3", "--name", "two words"], {"seed": 3, "path": tmp_path}, [weights, None, weights])
    path = run.write(tmp_path / "out/run.json", [tmp_path / "out/a.png", tmp_path / "b.png"], frames=8)
    record = json.loads(path.read_text())
    assert record["command"].endswith("--seed 3 --name 'two words'")
    assert record["arguments"] == {"seed": 3, "path": str(tmp_path)}
    assert record["seed"] == 3 and record["frames"] == 8 and record["seconds"] >= 0
    assert record["files"] == ["a.png", "../b.png"]
    assert record["weights"] == {str(weights): {"a.safetensors": hashlib.sha256(b"weights").hexdigest()}}
    assert {"python", "torch", "diffusers", "duet"} <= record["versions"].keys()


def test_facts_replace_what_the_arguments_say(tmp_path):
    run = Run.start([], {"seed": 3}, [])
    assert json.loads(run.write(tmp_path / "run.json", seed=4).read_text())["seed"] == 4


def test_the_weights_of_a_base_are_those_of_its_parts(tmp_path):
    found = hash_weights(shipped("tiny_svd"))
    assert sorted(found) == [
        "image_encoder/model.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    ]


def test_other_variants_old_formats_and_checkpoints_are_passed_over(tmp_path):
    for name in (
        "a.safetensors",
        "a.bin",
        "a.fp16.safetensors",
        "a.json",
        "checkpoint-2/a.safetensors",
        "y_lora/b.bin",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert sorted(hash_weights(tmp_path)) == ["a.safetensors", "y_lora/b.bin"]
    assert hash_weights("nobody/nothing") == {}


def test_a_file_of_the_hubs_cache_is_not_read_again(tmp_path):
    name = "ab" * 32
    (tmp_path / name).write_text("anything")
    (tmp_path / "model.safetensors").symlink_to(tmp_path / name)
    assert hash_weights(tmp_path) == {"model.safetensors": name}


def test_folders_with_content_and_files_are_refused(tmp_path):
    check_output_dir(tmp_path, overwrite=False)
    write_png(tmp_path / "a.png", Image.new("RGB", (1, 1)))
    with pytest.raises(FileExistsError, match="is not empty: choose another folder or pass --overwrite"):
        check_output_dir(tmp_path, overwrite=False)
    check_output_dir(tmp_path, overwrite=True)
    check_output_dir(tmp_path / "new/folder", overwrite=False)
    for folder in (tmp_path / "a.png", tmp_path / "a.png/out"):
        with pytest.raises(FileExistsError, match="a.png is a file; choose another folder"):
            check_output_dir(folder, overwrite=True)


@pytest.mark.parametrize(
    "check", [lambda path: check_output_dir(path, True), lambda path: check_output_file(path, True, "--to")]
)
def test_places_where_nothing_can_be_written_are_refused(tmp_path, check):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for path in (tmp_path / "link", tmp_path / "link/out"):
        with pytest.raises(FileExistsError, match="link is a link that leads nowhere"):
            check(path)
    with pytest.raises(OSError, match="nothing can be written in /proc "):
        check("/proc/results")
    with pytest.raises(ValueError, match="has 300 bytes"):
        check(tmp_path / ("a" * 300))
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def test_a_record_is_of_the_files_beside_it_alone(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("note.txt", "ours.png"):
        (tmp_path / name).touch()
    record = json.dumps({"files": ["../mine/note.txt", "sub", "/etc/hosts", "ours.png"]})
    (tmp_path / "run.json").write_text(record)
    remove_last_run(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["note.txt", "run.json", "sub"]


def test_files_that_no_record_names_are_foreign(tmp_path):
    assert foreign_files(tmp_path / "none") == []
    (tmp_path / "ours.png").touch()
    Run.start([], {}, []).write(tmp_path / "run.json", [tmp_path / "ours.png"])
    assert foreign_files(tmp_path) == []
    (tmp_path / "mine.txt").touch()
    assert foreign_files(tmp_path) == [tmp_path / "mine.txt"]
    assert foreign_files(tmp_path / "mine.txt") == [tmp_path / "mine.txt"]


def test_content_is_that_of_a_file_or_of_all_files_of_a_folder(tmp_path):
    (tmp_path / "a").write_text("1")
    file, folder = hash_content(tmp_path / "a"), hash_content(tmp_path)
    (tmp_path / "a").write_text("2")
    assert hash_content(tmp_path / "a") != file and hash_content(tmp_path) != folder
    assert hash_content(tmp_path / "none") is None


def test_what_is_read_may_not_lie_where_results_go(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.png").touch()
    for path in (tmp_path / "out/a.png", tmp_path / "link/a.png", tmp_path / "out"):
        with pytest.raises(ValueError, match="is read and lies in --output_dir .*: choose another folder"):
            check_output_dir(tmp_path / "out", True, [None, path])
    check_output_dir(tmp_path / "out", True, [tmp_path, tmp_path / "b.png"])


def test_files_that_exist_are_refused(tmp_path):
    check_output_file(tmp_path / "a.mp4", False, "--output_video")
    (tmp_path / "a.mp4").touch()
    with pytest.raises(FileExistsError, match="--output_video .*a.mp4 exists: choose another or pass --overwrite"):
        check_output_file(tmp_path / "a.mp4", False, "--output_video")
    check_output_file(tmp_path / "a.mp4", True, "--output_video")
    with pytest.raises(FileExistsError, match="exists and is a folder"):
        check_output_file(tmp_path, True, "--output_video")
    with pytest.raises(FileExistsError, match="a.mp4 is a file; choose another"):
        check_output_file(tmp_path / "a.mp4/b.mp4", True, "--output_video")


def test_the_files_of_the_last_run_go_and_others_stay(tmp_path):
    assert last_files(tmp_path) == []
    for name in ("old.png", "kept.png", "mine.txt"):
        (tmp_path / name).touch()
    Run.start([], {}, []).write(tmp_path / "run.json", [tmp_path / "old.png", tmp_path / "kept.png"])
    remove_last_run(tmp_path, kept=[tmp_path / "kept.png"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept.png", "mine.txt", "run.json"]
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ValueError, match="is no record of a run: remove it"):
        last_files(tmp_path)


def test_one_is_singular():
    assert [count(n, "image") for n in (0, 1, 2, 1234)] == ["0 images", "1 image", "2 images", "1,234 images"]
    assert count(2, "frame of the entry", "frames of the entries") == "2 frames of the entries"
