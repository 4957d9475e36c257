"""Videos become folders of numbered frames."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.numbered_clips import numbers_of
from utils.data.prepare_dataset import main
from utils.data.video_records import read_video_records
from utils.data.videos import ClipOptions, VideoDataset


@pytest.fixture
def run(panda, tmp_path, capsys):
    """Prepare the two videos; returns the output folder and the line that is printed."""

    def prepare(*flags, output="frames"):
        main(["--video_dir", str(panda), "--output_dir", str(tmp_path / output), *flags])
        return tmp_path / output, capsys.readouterr().out

    return prepare


def test_each_video_gets_a_folder_of_numbered_frames_and_nothing_lies_beside(run):
    folder, text = run("--max_frames", "5")
    assert text.startswith("2 videos prepared")
    assert sorted(path.name for path in folder.iterdir()) == ["00000_0000000_00000", "00000_0000000_00001"]
    for place in folder.iterdir():
        assert sorted(path.name for path in place.iterdir()) == [f"{k:05d}.png" for k in range(5)]
    with Image.open(folder / "00000_0000000_00001" / "00003.png") as image:
        assert image.size == (48, 32)
        assert np.abs(np.array(image).astype(int) - 60).max() <= 2


def test_our_loaders_find_captions_and_rates(run):
    folder, _ = run("--frame_stride", "2")
    for path in (folder, folder.with_name("frames.jsonl")):
        dataset = VideoDataset(read_video_records(path), ClipOptions(3, 32, 48, first_frames=True))
        sample = dataset[1]
        assert numbers_of(sample["pixel_values"]) == [0, 2, 4]
        assert sample["fps"] == pytest.approx(4)
        assert sample["caption"] == "clip 1"


@pytest.mark.parametrize(
    ("flags", "count", "size"),
    [
        (("--resolution", "16"), 12, (24, 16)),
        (("--height", "16", "--width", "32"), 12, (32, 16)),
        (("--fps", "4"), 6, (48, 32)),
        (("--fps", "4", "--frame_stride", "4"), 2, (48, 32)),
    ],
)
def test_size_and_rate_are_those_that_are_asked_for(run, flags, count, size):
    folder, _ = run(*flags)
    pictures = sorted((folder / "00000_0000000_00000").iterdir())
    assert len(pictures) == count
    with Image.open(pictures[0]) as image:
        assert image.size == size


def test_a_run_that_was_interrupted_continues(run, tmp_path):
    folder, _ = run()
    kept, lost = sorted(folder.iterdir())
    before = (kept / "00000.png").stat().st_mtime_ns
    for picture in lost.iterdir():
        picture.unlink()
    lost.rmdir()
    (folder / f".tmp-1-{lost.name}").mkdir()
    journal = folder.with_name("frames.jsonl")
    journal.write_text(journal.read_text() + '{"video_folder": "fra')
    _, text = run()
    assert text.startswith("1 video prepared, 1 already there")
    assert (kept / "00000.png").stat().st_mtime_ns == before
    assert sorted(folder.iterdir()) == [kept, lost]
    assert len(list(lost.iterdir())) == 12
    rows = [json.loads(line) for line in journal.read_text().splitlines()]
    assert sorted(row["video_folder"] for row in rows) == [f"frames/{place.name}" for place in (kept, lost)]


def test_captions_may_hold_separators_of_lines(run, panda):
    (panda / "00000" / "0000000_00000.txt").write_text("one\u2028and\x85another", encoding="utf-8")
    folder, _ = run()
    assert run()[1].startswith("0 videos prepared, 2 already there")
    assert read_video_records(folder)[0].read_caption() == "one\u2028and\x85another"


def test_nothing_is_overwritten(run, tmp_path):
    run("--max_frames", "5")
    with pytest.raises(ValueError, match="was begun with max_frames=5 and not 6"):
        run("--max_frames", "6")
    foreign = tmp_path / "other" / "00000_0000000_00001"
    foreign.mkdir(parents=True)
    with pytest.raises(FileExistsError, match="1 folder in the way, not in other.jsonl, the first .*00001"):
        run(output="other")
    assert list(foreign.parent.iterdir()) == [foreign]


def test_a_folder_of_something_else_is_left_alone(run, panda):
    before = sorted(panda.rglob("*"))
    with pytest.raises(FileExistsError, match="has content, and none from an earlier run; choose another --output_dir"):
        run(output=panda)
    assert sorted(panda.rglob("*")) == before


def test_bad_videos_raise_or_are_counted(run, panda):
    data = (panda / "00000" / "0000000_00001.mp4").read_bytes()
    (panda / "00000" / "0000000_00001.mp4").write_bytes(data[: len(data) * 3 // 4])
    with pytest.raises(ValueError, match="00001.mp4"):
        run()
    folder, text = run("--skip_bad_clips", "--num_workers", "2")
    assert "1 bad one left out" in text
    assert [place.name for place in folder.iterdir()] == ["00000_0000000_00000"]
    with pytest.raises(ValueError, match="gives 3 frames; --min_frames is 6"):
        run("--frame_stride", "4", "--min_frames", "6", output="other")


def test_flags_that_do_not_fit_and_equal_names_are_refused(run, panda):
    for given, missing in (("height", "width"), ("width", "height")):
        with pytest.raises(ValueError, match=f"--{given} 8 has no --{missing} beside it: pass both or neither"):
            run(f"--{given}", "8")
    with pytest.raises(ValueError, match="--resolution 8 keeps the shape"):
        run("--height", "8", "--width", "8", "--resolution", "8")
    with pytest.raises(ValueError, match="--min_frames 6 is more than --max_frames 5"):
        run("--max_frames", "5", "--min_frames", "6", "--skip_bad_clips")
    (panda / "00000_0000000_00000.mp4").write_bytes(b"")
    with pytest.raises(ValueError, match="2 videos of .* would share .*00000_0000000_00000"):
        run()


LONG = "x" * 251


def test_a_name_that_is_too_long_is_refused_before_any_work_or_passed_over(run, panda, video):
    (panda / "00000" / f"{LONG}.mp4").write_bytes(video.read_bytes())
    with pytest.raises(ValueError, match=r"xx… has 257 bytes, and a name in .* 255 at most: shorten"):
        run()
    assert not (panda.parent / "frames").exists()
    folder, text = run("--skip_bad_clips")
    assert "2 videos prepared, 0 already there, 1 bad one left out" in text
    assert len(list(folder.iterdir())) == 2
    assert "0 videos prepared, 2 already there, 1 bad" in run("--skip_bad_clips")[1]


@pytest.mark.parametrize("name", ["y" * 251, "ü" * 125], ids=["ascii", "two bytes"])
def test_a_folder_may_have_the_longest_name(run, panda, video, name):
    (panda / f"{name}.mp4").write_bytes(video.read_bytes())
    folder, text = run()
    assert text.startswith("3 videos prepared")
    assert (folder / name / "00011.png").is_file()


def test_an_output_folder_whose_list_would_have_too_long_a_name_is_refused(run):
    with pytest.raises(ValueError, match="has 256 bytes"):
        run("--skip_bad_clips", output="z" * 250)


@pytest.mark.parametrize("end", ["\n", ""])
def test_a_list_that_is_read_is_never_written(tmp_path, video, end):
    (tmp_path / "a.mp4").write_bytes(video.read_bytes())
    text = json.dumps({"file_name": "a.mp4", "text": "a cat"}) + end
    (tmp_path / "clips.jsonl").write_text(text)
    with pytest.raises(ValueError, match=r"would replace .*clips\.jsonl, which is read; choose another output"):
        main(["--video_dir", str(tmp_path / "clips.jsonl"), "--output_dir", str(tmp_path / "clips")])
    assert (tmp_path / "clips.jsonl").read_text() == text


@pytest.mark.parametrize("end", ["\n", ""])
@pytest.mark.parametrize(
    "row", [{"file_name": "a.mp4"}, {"video_folder": "frames/a", "text": "mine", "fps": 8}], ids=str
)
def test_a_list_of_somebody_else_stays_as_it_is(run, tmp_path, row, end):
    (tmp_path / "frames.jsonl").write_text(json.dumps(row) + end)
    with pytest.raises(FileExistsError, match=r"frames\.jsonl is not from an earlier run; choose another --output_dir"):
        run()
    assert (tmp_path / "frames.jsonl").read_text() == json.dumps(row) + end


def test_prepared_frames_are_not_prepared_into_themselves(run):
    folder, _ = run()
    before = sorted(folder.parent.rglob("*"))
    for output in (folder, folder / "00000_0000000_00000"):
        with pytest.raises((ValueError, FileExistsError), match="choose another"):
            main(["--video_dir", str(folder), "--output_dir", str(output)])
    assert sorted(folder.parent.rglob("*")) == before


def test_a_list_that_an_editor_saved_without_its_last_end_of_line_keeps_all_rows(run):
    folder, _ = run()
    journal = folder.with_name("frames.jsonl")
    journal.write_text(journal.read_text().rstrip("\n"))
    assert run()[1].startswith("0 videos prepared, 2 already there")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_list_that_an_editor_saved_in_another_encoding_keeps_all_rows(run, encoding):
    folder, _ = run()
    journal = folder.with_name("frames.jsonl")
    journal.write_text(journal.read_text(), encoding=encoding)
    assert run()[1].startswith("0 videos prepared, 2 already there")
