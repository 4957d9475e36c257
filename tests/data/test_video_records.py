"""Each layout of clips on disk is found out and listed, and what is wrong with it is named."""

import json
import tarfile

import pytest

from tests.numbered_clips import add, numbers_of
from utils.data.video_records import read_video_records, read_webvid
from utils.data.videos import ClipOptions, Panda, VideoDataset

OPTIONS = ClipOptions(num_frames=3, height=32, width=48, frame_stride=2, first_frames=True, center_crop=True)


@pytest.mark.parametrize(
    ("form", "keys", "captions"),
    [
        ("webvid", ["7"], ["A cat, asleep"]),
        ("panda", ["00000/0000000_00000", "00000/0000000_00001"], ["clip 0", "clip 1"]),
        ("json_list", ["clips/a", "a"], ["relative", "absolute"]),
        (
            "shards",
            ["00000/0_0", "00000/0_1", "00001/1_0", "00001/1_1"],
            [f"shard {k // 2} clip {k % 2}" for k in range(4)],
        ),
        ("frame_folders", ["frames/a"], [""]),
        ("video", ["a"], [""]),
    ],
)
def test_all_forms_give_the_same_sample(request, form, keys, captions):
    dataset = VideoDataset(read_video_records(request.getfixturevalue(form), frame_folder_fps=8), OPTIONS)
    samples = [dataset[index] for index in range(len(dataset))]
    assert [sample["key"] for sample in samples] == keys
    assert [sample["caption"] for sample in samples] == captions
    for sample in samples:
        assert sample["pixel_values"].shape == (3, 3, 32, 48)
        assert numbers_of(sample["pixel_values"]) == [0, 2, 4]
        assert sample["fps"] == pytest.approx(4)


def test_webvid_is_found_in_each_of_its_trees(webvid, tmp_path, video):
    rows = webvid.read_text()
    for name in ("flat/7.mp4", "pages/000001_000050/7.mp4", "other/videos/000001_000050/7.mp4"):
        place = tmp_path / name
        place.parent.mkdir(parents=True)
        place.write_bytes(video.read_bytes())
        assert read_webvid(webvid, tmp_path / name.split("/")[0])[0].video == place
    (tmp_path / "flat" / "train.csv").write_text(rows)
    assert read_video_records(tmp_path / "flat")[0].video == tmp_path / "flat" / "7.mp4"


def test_a_webvid_that_was_downloaded_in_part_lists_all(webvid):
    webvid.write_text(webvid.read_text() + "8,https://x,PT,000001_000050,gone\n")
    records = read_video_records(webvid)
    assert len(records) == 2
    with pytest.raises(FileNotFoundError, match=r"There is no video .*8\.mp4"):
        VideoDataset(records, OPTIONS)[1]


def test_a_caption_comes_from_json_where_there_is_no_text(panda):
    (panda / "00000" / "0000000_00000.txt").unlink()
    (panda / "00000" / "0000000_00000.json").write_text('{"caption": "from json"}')
    (panda / "00000" / "0000000_00001.txt").unlink()
    (panda / "00000" / "0000000_00001.json").unlink()
    assert [record.read_caption() for record in read_video_records(panda)] == ["from json", ""]


def test_metadata_lists_video_files_and_folders_of_frames(tmp_path, video, frame_folders):
    (tmp_path / "a.mp4").write_bytes(video.read_bytes())
    rows = [{"file_name": "a.mp4", "text": "file"}, {"video_folder": "frames/a", "text": "folder", "fps": 8}]
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    samples = [*map(VideoDataset(read_video_records(tmp_path), OPTIONS).__getitem__, range(2))]
    assert [sample["caption"] for sample in samples] == ["file", "folder"]
    assert [sample["fps"] for sample in samples] == pytest.approx([4, 4])
    assert [numbers_of(sample["pixel_values"]) for sample in samples] == [[0, 2, 4]] * 2


def test_the_notebooks_panda_is_a_data_set(panda):
    dataset = Panda(panda, 16, 4)
    assert len(dataset) == 2
    assert dataset[0]["pixel_values"].shape == (4, 3, 16, 16)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("list.json", "[1]", "is no list of"),
        ("list.json", "nonsense", "is not JSON"),
        ("rows.csv", "a,b\n1,2\n", "is no csv of WebVid: the column name is missing"),
        ("rows.csv", "videoid,page_dir,name\n1,2,x\n", "None of the videos"),
        ("rows.csv", "videoid,page_dir,name\n", "rows.csv lists no clip"),
        ("rows.csv", "videoid,page_dir,name\n1\n", "None of the videos"),
        ("list.json", '[{"video_path": 1}]', "clip 1: video_path=1 is no text"),
        ("list.json", '[{"video_path": "a.mp4", "text": ["x"]}]', r"clip 1: text=\['x'\] is no text"),
        ("list.json", '[{"video_path": "a", "fps": "8"}]', "clip 1: fps='8' is no number"),
        ("metadata.jsonl", '{"file_name": "a.mp4", "text": 5}', "line 1: text=5 is no text"),
        ("metadata.jsonl", '{"text": "x"}\n', "line 1: neither video_folder nor file_name"),
        ("metadata.jsonl", "[1]", "line 1: no JSON object"),
        ("metadata.jsonl", '\n{"video_folder": "x"}\n', "line 2: no fps for the frames in x"),
        ("x.tar", "no tar", "cannot be read as an uncompressed tar"),
        ("x.list", "", "is no list of clips"),
    ],
)
def test_lists_that_cannot_be_read_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        read_video_records(tmp_path / name)


def test_empty_ambiguous_and_missing_folders_are_named(tmp_path):
    with pytest.raises(ValueError, match="lists no clip"):
        read_video_records(tmp_path)
    for name in "ab":
        (tmp_path / f"{name}.csv").write_text("videoid,page_dir,name\n")
    with pytest.raises(ValueError, match="2 csv files; name one"):
        read_video_records(tmp_path)
    with pytest.raises(FileNotFoundError, match="no data set"):
        read_video_records(tmp_path / "absent")


def test_shards_that_are_cut_or_packed_are_named(shards, tmp_path):
    data = (shards / "00000.tar").read_bytes()
    header = data.index(b"0_1.mp4")
    for size in (1000, header - 200, header + 100, header + 1000):
        (tmp_path / "cut.tar").write_bytes(data[:size])
        with pytest.raises(ValueError, match=r"cut.tar (is damaged or|is cut short|cannot be read)"):
            read_video_records(tmp_path / "cut.tar")
    with tarfile.open(tmp_path / "packed.tar", "w:gz") as tar:
        add(tar, "a.mp4", b"")
    with pytest.raises(ValueError, match=r"packed.tar cannot be read as an uncompressed tar"):
        read_video_records(tmp_path / "packed.tar")


def test_names_inside_shards_lead_nowhere_else(tmp_path, video):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        add(tar, "../../up.mp4", video.read_bytes())
        add(tar, "/root.mp4", video.read_bytes())
    assert [record.key for record in read_video_records(tmp_path / "x.tar")] == ["x/up", "x/root"]
