"""One rule for captions and for what rows hold, in every list of images and of clips."""

import json
import tarfile

import pytest
from PIL import Image

from tests.numbered_clips import add
from utils.data.records import read_records
from utils.data.rows import CAPTION_KEYS
from utils.data.video_records import read_video_records
from utils.data.videos import ClipOptions, VideoDataset


def write_images(folder, row):
    folder.mkdir()
    Image.new("RGB", (4, 4)).save(folder / "a.png")
    (folder / "metadata.jsonl").write_text(json.dumps({"file_name": "a.png", **row}) + "\n")
    return folder


def write_metadata(folder, row):
    folder.mkdir()
    (folder / "metadata.jsonl").write_text(json.dumps({"file_name": "a.mp4", **row}) + "\n")
    return folder


def write_list(folder, row):
    folder.mkdir()
    (folder / "list.json").write_text(json.dumps([{"video_path": "a.mp4", **row}]))
    return folder / "list.json"


def write_beside(folder, row):
    folder.mkdir()
    (folder / "a.mp4").touch()
    (folder / "a.JSON").write_text(json.dumps(row))
    return folder


def write_shard(folder, row):
    folder.mkdir()
    with tarfile.open(folder / "0.tar", "w") as tar:
        add(tar, "a.mp4", b"")
        add(tar, "a.json", json.dumps(row).encode("utf-8-sig"))
    return folder


def read_captions(write, place):
    if write is write_images:
        return [record.caption for record in read_records(place)]
    return [record.read_caption() for record in read_video_records(place)]


FORMS = [write_images, write_metadata, write_list, write_beside, write_shard]


@pytest.mark.parametrize("write", FORMS)
def test_a_caption_is_the_first_of_its_keys_in_every_form(tmp_path, write):
    for number, key in enumerate(CAPTION_KEYS):
        assert read_captions(write, write(tmp_path / key, {key: "a cat"})) == ["a cat"]
        later = dict.fromkeys(CAPTION_KEYS[number + 1 :], "a dog")
        assert read_captions(write, write(tmp_path / f"{key}+", {**later, key: "a cat"})) == ["a cat"]
    for blank in ("", " \n"):
        empty = {"text": None, "caption": blank, "prompt": "a cat"}
        assert read_captions(write, write(tmp_path / f"empty{len(blank)}", empty)) == ["a cat"]


@pytest.mark.parametrize("write", FORMS)
@pytest.mark.parametrize("value", [["a cat"], 5, 0, False, {"en": "a cat"}, [], "\ud800"], ids=repr)
def test_a_caption_that_is_no_text_is_refused_in_one_sentence(tmp_path, write, value):
    with pytest.raises(ValueError, match=r"(text=.* is no text|text='\\ud800' holds half a letter)") as caught:
        read_captions(write, write(tmp_path / "x", {"text": value}))
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("write", [write_images, write_metadata, write_list])
def test_the_key_of_the_captions_is_said(tmp_path, capsys, write):
    place = write(tmp_path / "x", {"caption": "a cat"})
    read_captions(write, place)
    assert capsys.readouterr().err == f'{place}: 1 of 1 have a caption, from "caption" (1).\n'


@pytest.mark.parametrize("write", [write_images, write_metadata, write_list])
@pytest.mark.parametrize("row", [{}, {"text": None}, {"text": ""}, {"title": "a cat"}], ids=str)
def test_that_there_are_no_captions_is_said(tmp_path, capsys, write, row):
    assert read_captions(write, write(tmp_path / "x", row)) == [""]
    assert "x: none of 1 has a caption" in capsys.readouterr().err.replace("/list.json", "")


def test_captions_beside_are_said_by_their_suffix(panda, capsys):
    (panda / "00000" / "0000000_00001.txt").unlink()
    (panda / "00000" / "0000000_00001.json").unlink()
    read_video_records(panda)
    assert '1 of 2 have a caption, from ".txt beside" (1).' in capsys.readouterr().err


@pytest.mark.parametrize("content", ['{"caption": null}', '{"caption": ""}', "{}", "[]", '{"caption": ["a"]}', "{"])
def test_checking_clips_finds_a_caption_that_is_none(tmp_path, video, content):
    for name in "ab":
        (tmp_path / f"{name}.mp4").write_bytes(video.read_bytes())
    (tmp_path / "b.json").write_text(content)
    options = ClipOptions(num_frames=3, height=32, width=48)
    with pytest.raises(ValueError, match=r"b\.json"):
        VideoDataset(read_video_records(tmp_path), options).check()
    assert len(VideoDataset(read_video_records(tmp_path), options, skip_bad_clips=True).without_bad_clips()) == 1


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"file_name": 0}, "line 1: file_name=0 is no text"),
        ({"file_name": None}, "line 1: no file_name"),
        ({"file_name": ""}, "line 1: no file_name"),
        ({"file_name": ["a.png"]}, "line 1: file_name=.* is no text"),
        ({"file_name": "a\0.png"}, "line 1: file_name=.* is no text"),
        ({"depth_file_name": 5}, "line 1: depth_file_name=5 is no text"),
        ({"depth_file_name": False}, "line 1: depth_file_name=False is no text"),
        ({"depth_kind": 3}, "line 1: depth_kind is metres or disparity, not 3"),
        ({"depth_kind": 0}, "line 1: depth_kind is metres or disparity, not 0"),
        ({"depth_kind": []}, r"line 1: depth_kind is metres or disparity, not \[\]"),
        ({"depth_kind": ["metres"]}, "line 1: depth_kind is metres or disparity"),
    ],
)
def test_rows_of_images_are_checked_before_any_work(tmp_path, row, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_records(write_images(tmp_path / "x", row))


def test_an_image_that_the_metadata_names_as_depth_is_refused(tmp_path):
    for name in ("a.png", "./a.png"):
        with pytest.raises(ValueError, match="names .*a.png as depth, and it is an image; remove that depth_file_name"):
            read_records(write_images(tmp_path / f"x{len(name)}", {"depth_file_name": name}))
    with pytest.raises(FileNotFoundError, match="names 1 missing file, the first .*b.png"):
        read_records(write_images(tmp_path / "y", {"depth_file_name": "b.png"}))


@pytest.mark.parametrize("value", [None, ""])
def test_a_row_without_depth_may_say_so(tmp_path, value):
    [record] = read_records(write_images(tmp_path / "x", {"depth_file_name": value, "depth_kind": None}))
    assert record.depth is None


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"file_name": 0}, "line 1: file_name=0 is no text"),
        ({"file_name": None}, "line 1: neither video_folder nor file_name"),
        ({"video_folder": 7, "fps": 8}, "line 1: video_folder=7 is no text"),
        ({"video_folder": "a"}, "line 1: no fps for the frames in a"),
        ({"video_folder": "a", "fps": None}, "line 1: no fps for the frames in a"),
        ({"video_folder": "a", "fps": True}, "line 1: fps=True is no number"),
        ({"video_folder": "a", "fps": float("nan")}, "line 1: fps=nan is not in"),
        ({"video_folder": "a", "fps": float("inf")}, "line 1: fps=inf is not in"),
        ({"video_folder": "a", "fps": 10**400}, "line 1: fps=1.* is not in"),
        ({"video_folder": "a", "fps": 1e-6}, "line 1: fps=1e-06 is not in"),
        ({"video_folder": "a", "fps": -8}, "line 1: fps=-8 is not in"),
        ({"flow_file_name": 5}, "line 1: flow_file_name=5 is no text"),
        ({"tracks_file_name": []}, r"line 1: tracks_file_name=\[\] is no text"),
    ],
)
def test_rows_of_clips_are_checked_before_any_work(tmp_path, row, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_video_records(write_metadata(tmp_path / "x", row))


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"video_path": 0}, "clip 1: video_path=0 is no text"),
        ({"video_path": None}, "clip 1: no video_path"),
        ({"fps": 0}, "clip 1: fps=0 is not in"),
    ],
)
def test_rows_of_a_json_list_are_checked_before_any_work(tmp_path, row, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_video_records(write_list(tmp_path / "x", row))
