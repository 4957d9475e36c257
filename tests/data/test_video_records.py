"""Each layout of clips on disk is found out and listed, and what is wrong with it is named."""

import json
import tarfile

import pytest
from PIL import Image

from tests.numbered_clips import add, numbered, numbers_of
from utils.data.clip_frames import ClipFrames
from utils.data.video_records import read_video_records, read_webvid, unique_clips
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


LEFTOVERS = (
    "._a.mp4",
    "._a.txt",
    ".DS_Store",
    "Thumbs.db",
    "__MACOSX/._a.mp4",
    ".Trashes/b.mp4",
    "a.mp4~",
    "._x.csv",
    "._0.tar",
)


@pytest.mark.parametrize("form", ["webvid", "panda", "shards", "frame_folders"])
def test_what_systems_and_editors_leave_is_no_clip(request, form):
    place = request.getfixturevalue(form)
    folder = place if place.is_dir() else place.parent
    expected = [record.key for record in read_video_records(folder)]
    for where in {folder, *(path for path in folder.rglob("*") if path.is_dir())}:
        for name in (*LEFTOVERS, "._1.png"):
            (where / name).parent.mkdir(exist_ok=True)
            (where / name).write_bytes(b"\0\5\x16\7")
    records = read_video_records(folder)
    assert [record.key for record in records] == expected
    assert len(VideoDataset(records, OPTIONS)[0]["pixel_values"]) == 3


def test_leftovers_in_shards_are_no_clips(tmp_path, video):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name in ("./._a.mp4", "__MACOSX/._a.mp4", "__MACOSX/a.mp4", ".DS_Store", "a.mp4"):
            add(tar, name, video.read_bytes())
    assert [record.key for record in read_video_records(tmp_path / "x.tar")] == ["x/a"]


NAMES = ["img_{}_640x480.png", "{}_of_12.png", "frame{}.v2.png", "frame_{}@2x.png", "Frame{}.PNG", "shot3_{}.jpg"]


@pytest.mark.parametrize("name", NAMES)
def test_frames_come_in_natural_order(tmp_path, name):
    (tmp_path / "a").mkdir()
    for number, frame in enumerate(numbered()):
        Image.fromarray(frame).save(tmp_path / "a" / name.format(number), quality=95)
    [record] = read_video_records(tmp_path)
    frames = list(ClipFrames(record).read(range(12)))
    assert [round(frame.mean() / 20) for frame in frames] == list(range(12))


def test_clips_and_folders_come_in_natural_order(tmp_path, video):
    for name in ("b/10.mp4", "b/9.mp4", "clip10.MP4", "Clip9.mp4", "b10/1.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [record.key for record in read_video_records(tmp_path)] == ["b/9", "b/10", "b10/1", "Clip9", "clip10"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_lists_and_captions_are_read_in_the_encodings_that_people_save_in(tmp_path, video, webvid, encoding):
    words = "Käfer, straße"
    webvid.write_text(webvid.read_text().replace("A cat, asleep", words), encoding=encoding)
    for number, (name, text) in enumerate(
        {
            "list.json": json.dumps([{"video_path": "a.mp4", "text": words}], ensure_ascii=False),
            "list.jsonl": json.dumps({"file_name": "a.mp4", "text": words}, ensure_ascii=False) + "\r\n",
            "b.txt": words,
            "c.json": json.dumps({"caption": words}, ensure_ascii=False),
        }.items()
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / f"{name[0]}.mp4").write_bytes(video.read_bytes())
        (folder / name).write_text(text, encoding=encoding)
        place = folder / name if name.startswith("list") else folder
        assert read_video_records(place)[0].read_caption() == words
    assert read_video_records(webvid)[0].read_caption() == words


def test_text_that_is_none_is_named(panda):
    (panda / "00000" / "0000000_00001.txt").write_bytes("clip".encode("utf-16-le"))
    with pytest.raises(ValueError, match=r"00001\.txt holds zero bytes and is no text"):
        VideoDataset(read_video_records(panda), OPTIONS)[1]


def test_a_field_of_a_webvid_may_be_long(webvid):
    webvid.write_text(webvid.read_text().replace("A cat, asleep", "x" * 140_000))
    assert len(read_video_records(webvid)[0].caption) == 140_000


@pytest.mark.parametrize("name", ["x" * 251 + ".mp4", "ü" * 125 + ".mp4"], ids=["ascii", "two bytes"])
def test_clips_with_the_longest_names_are_listed_with_their_captions(tmp_path, video, name):
    (tmp_path / name).write_bytes(video.read_bytes())
    (tmp_path / name).with_suffix(".txt").write_text("a cat")
    [record] = read_video_records(tmp_path)
    assert record.read_caption() == "a cat"
    with pytest.raises(ValueError, match="None of the videos"):
        (tmp_path / "rows.csv").write_text(f"videoid,page_dir,name\n{'x' * 300},p,n\n")
        read_video_records(tmp_path / "rows.csv")


def test_a_clip_counts_once_however_often_it_is_listed(tmp_path, video, shards):
    (tmp_path / "a.mp4").write_bytes(video.read_bytes())
    (tmp_path / "link.mp4").symlink_to("a.mp4")
    rows = [
        {"file_name": name, "text": str(k)} for k, name in enumerate(["a.mp4", "./a.mp4", "x/../a.mp4", "link.mp4"])
    ]
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert len(unique_clips(read_video_records(tmp_path / "metadata.jsonl"))) == 1
    members = read_video_records(shards)
    assert len(unique_clips([*members, *members])) == 4


@pytest.mark.parametrize("fps", [1e-6, float("nan"), 1e9])
def test_rates_that_no_clip_has_are_refused(frame_folders, fps):
    message = "is not in 0.001 to 100000 frames per second"
    with pytest.raises(ValueError, match=message):
        read_video_records(frame_folders, frame_folder_fps=fps)
    with pytest.raises(ValueError, match=message):
        ClipFrames(read_video_records(frame_folders)[0], fps)
    with pytest.raises(ValueError, match=message):
        ClipOptions(fps=fps)


def test_files_whose_names_no_folder_takes_are_missing_files(tmp_path, capsys):
    row = {"file_name": "x" * 300, "flow_file_name": "y" * 300, "tracks_file_name": "z" * 300}
    (tmp_path / "metadata.jsonl").write_text(json.dumps(row) + "\n")
    records = read_video_records(tmp_path)
    for extras in ((), ("flow",), ("tracks",)):
        with pytest.raises(FileNotFoundError, match="There (is|are) no"):
            VideoDataset(records, ClipOptions(num_frames=3), extras)[0]
    with pytest.raises(ValueError, match="No clip of 1 is good"):
        VideoDataset(records, OPTIONS, skip_bad_clips=True).without_bad_clips()
    with pytest.raises(FileNotFoundError, match="no data set"):
        read_video_records(tmp_path / ("x" * 300))
