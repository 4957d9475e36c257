"""Files of tracks: what they say, where it lands in a video, and what is refused."""

import json

import numpy as np
import pytest
import torch

from utils.images import cover
from utils.tracks.files import read_track_file

W, H, F = 32, 24, 5


def write(tmp_path, **content):
    path = tmp_path / "tracks.json"
    path.write_text(json.dumps(content))
    return path


def straight(start, step, frames=F):
    return [[start[0] + k * step[0], start[1] + k * step[1]] for k in range(frames)]


def test_a_track_of_another_length_is_linear_in_time_between_its_points(tmp_path):
    path = write(tmp_path, tracks=[[[2, 3], [6, 3], [6, 11]], straight((4, 4), (1, 1), 9)])
    points = read_track_file(path, W, H).on_video(F, W, H).points
    assert torch.allclose(points[:, 0], torch.tensor([[2, 3], [4, 3], [6, 3], [6, 7], [6, 11.0]]))
    assert torch.allclose(points[:, 1], torch.tensor(straight((4.0, 4.0), (2, 2))))


def test_an_array_says_what_the_same_json_says(tmp_path):
    tracks = [straight((2, 3), (1, 2)), straight((20, 4), (-3, 1))]
    np.save(tmp_path / "tracks.npy", np.array(tracks, np.float64))
    first = read_track_file(write(tmp_path, tracks=tracks), W, H).on_video(F, W, H)
    second = read_track_file(tmp_path / "tracks.npy", W, H).on_video(F, W, H)
    assert torch.equal(first.points, second.points)
    assert second.points.shape == (F, 2, 2)


def test_the_size_that_a_file_names_scales_its_pixels(tmp_path):
    content = {"tracks": [straight((8, 8), (4, 2))], "static_regions": [[40, 2, 47, 9]]}
    content["camera"] = {"preset": "pan_left", "speed": 3}
    tracks = read_track_file(write(tmp_path, width=2 * W, height=2 * H, **content), W, H).on_video(F, W, H)
    assert torch.allclose(tracks.points[:, 0], torch.tensor(straight((3.75, 3.75), (2.0, 1.0))))
    assert torch.equal(tracks.camera[:, 0], torch.full((F - 1, H, W), 1.5))
    region = tracks.static.nonzero()
    assert region.min(dim=0).values.tolist() == [1, 20] and region.max(dim=0).values.tolist() == [4, 23]


@pytest.mark.parametrize("size", [(48, 32), (32, 48), (40, 90), (64, 48)])
def test_a_point_lands_where_its_pixel_lands_when_the_image_is_cut_to_the_video(tmp_path, size):
    width, height = size
    picture = torch.zeros(1, height, width) - 1
    x, y = width // 2 + 2, height // 2 - 3
    picture[0, y, x] = 1
    small = cover(picture, (24, 32))[0] + 1
    rows, columns = torch.meshgrid(torch.arange(24.0), torch.arange(32.0), indexing="ij")
    found = [float((small * places).sum() / small.sum()) for places in (columns, rows)]
    path = write(tmp_path, tracks=[[[x, y], [x, y]]])
    tracks = read_track_file(path, width, height).on_video(F, 32, 24)
    assert tracks.points[0, 0].tolist() == pytest.approx(found, abs=0.05)  # the filter moves a mean a little


def test_static_points_are_tracks_that_stay_and_regions_a_mask(tmp_path):
    path = write(tmp_path, tracks=[straight((2, 2), (1, 0))], static_points=[[9, 8]], static_regions=[[10, 4, 12, 5]])
    tracks = read_track_file(path, W, H).on_video(F, W, H)
    assert torch.equal(tracks.points[:, 1], torch.tensor([9.0, 8.0]).expand(F, 2))
    assert tracks.moving.tolist() == [True, False]
    expected = torch.zeros(H, W, dtype=torch.bool)
    expected[4:6, 10:13] = True
    assert torch.equal(tracks.static, expected)


def test_a_region_smaller_than_a_pixel_of_the_video_still_has_one(tmp_path):
    path = write(tmp_path, static_regions=[[100, 100, 101, 101]])
    assert read_track_file(path, 16 * W, 16 * H).on_video(F, W, H).static.sum() == 1


def test_a_region_of_the_whole_of_a_smaller_image_is_the_whole_of_a_larger_one(tmp_path):
    path = write(tmp_path, width=4, height=3, static_regions=[[0, 0, 3, 2]])
    assert read_track_file(path, W, H).on_video(F, W, H).static.all()
    path = write(tmp_path, static_regions=[[3, 2, 3, 2]])
    region = read_track_file(path, W, H).on_video(F, 4 * W, 4 * H).static.nonzero()
    assert region.min(dim=0).values.tolist() == [8, 12] and region.max(dim=0).values.tolist() == [11, 15]


def test_a_published_file_of_boxes_is_recognised_and_read_as_the_way_of_their_middles(shared_media):
    path = shared_media / "traj28.npy"
    with pytest.raises(ValueError, match="--tracks_layout box"):
        read_track_file(path, 1024, 576)
    tracks = read_track_file(path, 1024, 576, layout="box").on_video(14, 1024, 576)
    assert tracks.points.shape == (14, 2, 2)
    assert tracks.points[0].tolist() == [[429, 125], [578, 187]]
    assert tracks.points[-1].tolist() == [[471, 149], [505, 155]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "asks for nothing"),
        ({"track": []}, "unknown key 'track'"),
        ({"tracks": [[[40, 2], [3, 4]]]}, r"\(40, 2\) outside of its 32x24"),
        ({"static_points": [[2, -3]]}, "outside of its"),
        ({"tracks": [[[4, 2]]]}, "track 0 has 1 point and needs"),
        ({"tracks": [[4, 2], [5, 6]]}, "lists of 2 numbers"),
        ({"tracks": 3}, "tracks is to be a list"),
        ({"tracks": [[[4, "a"], [5, 6]]]}, "lists of 2 numbers"),
        ({"tracks": [[[4, 2], [float("nan"), 6]]]}, "not finite"),
        ({"static_regions": [[9, 9, 3, 3]]}, "static region"),
        ({"static_regions": [[50, 9, 60, 12]]}, "static region"),
        ({"camera": {"preset": "fly", "speed": 1}}, "'fly' is unknown"),
        ({"camera": {"preset": "pan_left"}}, "camera is to be"),
        ({"width": 10, "height": 30, "static_points": [[2, 3]]}, "of another shape"),
        ({"width": -4, "static_points": [[2, 3]]}, "positive"),
        ({"width": float("inf"), "static_points": [[2, 3]]}, "positive"),
        ({"height": float("nan"), "static_points": [[2, 3]]}, "positive"),
        ({"width": 10**400, "static_points": [[2, 3]]}, "positive"),
        ({"width": None, "static_points": [[2, 3]]}, "positive"),
        ({"static_points": [[10**400, 3]]}, "lists of 2 numbers"),
        ({"static_points": [[1e300, 3]]}, "not finite"),
        ({"camera": {"preset": "pan_left", "speed": 10**400}}, "speed .* no positive number"),
        ({"camera": {"preset": "pan_left", "speed": float("inf")}}, "speed .* no positive number"),
        ({"camera": {"preset": ["pan_left"], "speed": 1}}, "is unknown"),
    ],
)
def test_a_file_that_says_nothing_usable_is_refused_in_a_sentence_with_its_name(tmp_path, content, message):
    with pytest.raises(ValueError, match=message) as refused:
        read_track_file(write(tmp_path, **content), W, H)
    assert "tracks.json" in str(refused.value) and "\n" not in str(refused.value)


def test_files_that_are_no_tracks_are_refused(tmp_path):
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "b.npy").write_text("no array")
    np.save(tmp_path / "c.npy", np.zeros((4, 2)))
    (tmp_path / "d.txt").write_text("")
    (tmp_path / "e.npy").write_bytes(b"PK\3\4" + bytes(30))
    np.savez(tmp_path / "several.npz", a=np.zeros(1), b=np.zeros(1))
    (tmp_path / "several.npz").rename(tmp_path / "f.npy")
    np.save(tmp_path / "g.npy", np.array([[1], [2, 3]], object), allow_pickle=True)
    for name, message in {
        "a.json": "not JSON",
        "b.npy": "cannot be read",
        "c.npy": "N, F, 2",
        "d.txt": "neither",
        "e.npy": "e.npy cannot be read as an array of numbers: File is not a zip",
        "f.npy": "f.npy is an archive of several arrays",
        "g.npy": "g.npy cannot be read as an array of numbers: it .* holds Python objects",
    }.items():
        with pytest.raises(ValueError, match=message):
            read_track_file(tmp_path / name, W, H)
    with pytest.raises(FileNotFoundError, match="no file of tracks"):
        read_track_file(tmp_path / "none.json", W, H)


def test_a_drag_out_of_a_static_region_and_a_start_that_is_cut_away_are_refused(tmp_path):
    path = write(tmp_path, tracks=[straight((11, 4), (1, 0))], static_regions=[[10, 3, 12, 5]])
    with pytest.raises(ValueError, match="in a static region"):
        read_track_file(path, W, H).on_video(F, W, H)
    path = write(tmp_path, tracks=[straight((1, 4), (1, 0))])
    with pytest.raises(ValueError, match="outside of its 24x24 pixels. The crop to the video's shape cut it away"):
        read_track_file(path, 4 * W, 2 * H).on_video(F, H, H)


@pytest.mark.parametrize("name", ["a.json", "b.json", "c.json"])
def test_json_that_is_nested_too_deep_is_refused_in_a_sentence(tmp_path, name):
    deep = "[" * 100_000 + "]" * 100_000
    text = {"a.json": deep, "b.json": f'{{"tracks": {deep}}}', "c.json": '{"tracks": ' + "[" * 200 + "]" * 200 + "}"}
    (tmp_path / name).write_text(text[name])
    with pytest.raises(ValueError, match=rf"{name} is nested more than 100 lists"):
        read_track_file(tmp_path / name, W, H)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_with_a_byte_order_mark_are_read(tmp_path, encoding):
    (tmp_path / "a.json").write_text('{"static_points": [[2, 3]]}', encoding=encoding)
    assert read_track_file(tmp_path / "a.json", W, H).static_points.tolist() == [[2, 3]]


SHARES = [[[0.1, 0.2], [0.9, 0.4]], [[0.0, 1.0], [1.05, 0.5]]]


@pytest.mark.parametrize(
    "content",
    [{"tracks": SHARES}, {"static_points": [[0.5, 0.5]]}, {"tracks": SHARES, "static_regions": [[0.1, 0.1, 0.5, 0.6]]}],
)
def test_points_that_count_from_0_to_1_are_warned_of_in_one_line(tmp_path, capsys, content):
    read_track_file(write(tmp_path, **content), W, H)
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and "tracks.json begin within 0 to 1" in line


def test_arrays_that_count_from_0_to_1_are_warned_of(tmp_path, capsys):
    np.save(tmp_path / "tracks.npy", np.array(SHARES))
    read_track_file(tmp_path / "tracks.npy", W, H)
    assert "begin within 0 to 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content",
    [
        {"tracks": [straight((2, 3), (1, 0))]},
        {"static_points": [[16, 12]]},
        {"camera": {"preset": "pan_left", "speed": 1}},
        {"tracks": [[[0.5, 0.5], [0.9, 0.5]]], "static_points": [[20, 20]]},
        {"tracks": [[[20, 20], [20, 20]]]},
    ],
)
def test_points_in_pixels_are_not_warned_of(tmp_path, capsys, content):
    read_track_file(write(tmp_path, **content), W, H)
    assert capsys.readouterr().err == ""


def test_what_is_refused_is_not_warned_of(tmp_path, capsys):
    with pytest.raises(ValueError, match="track 0 has 1 point and needs 2 or more"):
        read_track_file(write(tmp_path, tracks=[[[0.5, 0.5]]]), W, H)
    assert capsys.readouterr().err == ""
