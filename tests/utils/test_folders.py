"""One lister: natural order of names, and nothing that systems and editors leave."""

import random

import pytest

from utils.formats.folders import IMAGE_SUFFIXES, has_content, is_leftover, list_files, natural_key, walk_files

ORDERS = [
    ["img_2_640x480.png", "img_10_640x480.png"],
    ["3_of_12.png", "12_of_12.png"],
    ["frame2.v2.png", "frame10.v2.png"],
    ["frame_2@2x.png", "frame_10@2x.png"],
    ["flow_2.flo", "flow_10.flo"],
    ["a1b2.npy", "a1b10.npy", "a2b1.npy"],
    ["Frame_1.PNG", "frame_2.png", "FRAME_10.png"],
    ["٩.png", "١٠.png"],
    ["９.png", "１０.png"],
    ["img_2.png", "img_2-b.png", "img_2_1.png", "img_3.png"],
    ["a.jpg", "a.png", "a1.jpg"],
    ["v1.9/1.png", "v1.10/1.png"],
    ["clip2/10.png", "clip10/2.png"],
    ["01.png", "1.png", "001a.png", "2.png"],
    ["9" * 6000, "1" + "0" * 6000],
]


@pytest.mark.parametrize("names", ORDERS, ids=lambda names: names[0][:20])
def test_names_come_in_the_order_in_which_a_person_counts(names):
    for seed in range(5):
        assert sorted(random.Random(seed).sample(names, len(names)), key=natural_key) == names


LEFT = ["._a.jpg", ".DS_Store", "Thumbs.db", "thumbs.DB", "__MACOSX", "a.png~", ".a.png.swp", "~$a.jpg", "#a.png#"]


@pytest.mark.parametrize("name", [*LEFT, "desktop.ini", "@eaDir", ".ipynb_checkpoints"])
def test_what_systems_and_editors_leave_is_passed_over(name):
    assert is_leftover(name)


def test_a_folder_lists_its_files_of_any_case_and_no_leftovers(tmp_path):
    for name in ("b10.JPG", "b9.jpeg", "._b9.jpeg", "b1.jpg~", "notes.txt", ".hidden.png"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_files(tmp_path, IMAGE_SUFFIXES)] == ["b9.jpeg", "b10.JPG"]


def test_folders_of_leftovers_are_not_walked_through(tmp_path):
    for name in ("10/a.mp4", "9/a.mp4", "__MACOSX/9/a.mp4", ".cache/a.mp4", "9/@eaDir/a.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert walk_files(tmp_path, {".mp4"}) == [tmp_path / "9" / "a.mp4", tmp_path / "10" / "a.mp4"]


def test_a_root_that_is_hidden_itself_is_read(tmp_path):
    (tmp_path / ".data").mkdir()
    (tmp_path / ".data" / "a.png").touch()
    assert walk_files(tmp_path / ".data") == list_files(tmp_path / ".data", {".png"}) == [tmp_path / ".data" / "a.png"]


def test_a_folder_that_a_file_manager_has_shown_is_still_empty(tmp_path):
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._a.png"):
        (tmp_path / name).touch()
    assert not has_content(tmp_path)
    (tmp_path / ".git").mkdir()
    assert has_content(tmp_path)
