"""Files are replaced whole, under names of any length, and never where something is read."""

import os

import pytest
import torch
from safetensors.torch import save_file

import patch
from tests.tiny_video_pipeline import tiny_video_pipeline
from utils.files import check_name, check_not_read, is_file, remove_leftovers, replacing

NAMES = ["x" * 251 + ".txt", "ü" * 125 + ".txt", "x" * 255, "x." + "y" * 250]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name[-9:])
def test_a_name_of_255_bytes_is_written(tmp_path, name):
    with replacing(tmp_path / name) as temporary:
        assert temporary.parent == tmp_path
        temporary.write_text("whole")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "whole")]


def test_the_suffix_stays_with_a_short_temporary_name(tmp_path):
    with replacing(tmp_path / ("x" * 251 + ".mp4")) as temporary:
        assert temporary.suffix == ".mp4"
        temporary.touch()


def test_a_folder_does_not_become_a_file(tmp_path):
    (tmp_path / "a.png").mkdir()
    (tmp_path / "a.png/mine").touch()
    with (
        pytest.raises(FileExistsError, match="a.png is a folder and was to become a file"),
        replacing(tmp_path / "a.png") as temporary,
    ):
        temporary.touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["a.png", "mine"]


def test_weights_may_be_read_as_other_new_files(tmp_path):
    (tmp_path / "plain").touch()
    for name in ("a.safetensors", "folder"):
        with replacing(tmp_path / name) as temporary:
            file = temporary / "unet/b.safetensors" if name == "folder" else temporary
            file.parent.mkdir(parents=True, exist_ok=True)
            save_file({"w": torch.zeros(1)}, file)
    patch.save(patch.add_joint(tiny_video_pipeline().unet, "c", rank=1), tmp_path, "c")
    written = [tmp_path / "plain", *tmp_path.rglob("*.safetensors")]
    assert len(written) == 4 and len({path.stat().st_mode for path in written}) == 1


@pytest.mark.parametrize("name", ["a.txt", "x" * 251 + ".txt"], ids=["short", "long"])
def test_what_an_interruption_left_is_removed_and_nothing_else(tmp_path, name):
    with replacing(tmp_path / name) as temporary:
        temporary.touch()
        left = temporary.with_name(temporary.name.replace(str(os.getpid()), "1"))
    for other in (left, tmp_path / f".tmp-1-other-{left.name[7:200]}"):
        other.touch()
    remove_leftovers(tmp_path / name)
    assert not left.exists()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_name_that_no_folder_takes_is_refused_before_it_is_written(tmp_path):
    path = tmp_path / "new" / ("ü" * 126 + ".txt")
    with pytest.raises(ValueError, match="has 256 bytes, and a name in .* 255 at most: shorten"):
        check_name(path)
    with pytest.raises(ValueError, match="has 256 bytes"), replacing(path):
        pass
    with pytest.raises(ValueError, match="has 300 bytes"):
        check_name(tmp_path / ("x" * 300) / "a.txt")
    assert list(tmp_path.iterdir()) == []
    assert not is_file(path)


def test_what_is_read_is_not_written_to_through_any_link(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").touch()
    (tmp_path / "depth").symlink_to("images")
    (tmp_path / "b.png").symlink_to("images/a.png")
    read = [tmp_path / "images" / "a.png"]
    check_not_read([tmp_path / "images" / "b.png"], read)
    for output in (tmp_path / "depth" / "a.png", tmp_path / "b.png", tmp_path / "x" / ".." / "images" / "a.png"):
        with pytest.raises(ValueError, match=r"would replace .*images/a\.png, which is read"):
            check_not_read([output], read)
    with pytest.raises(ValueError, match="is to be written"):
        check_not_read([tmp_path / "depth" / "new.png"], [tmp_path / "images"])
    with pytest.raises(ValueError, match="is to be written"):
        check_not_read([tmp_path / "images" / "a.png"], [tmp_path / "b.png"])
