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
    assert text.startswith("1 videos prepared, 1 were there")
    assert (kept / "00000.png").stat().st_mtime_ns == before
    assert sorted(folder.iterdir()) == [kept, lost]
    assert len(list(lost.iterdir())) == 12
    rows = [json.loads(line) for line in journal.read_text().splitlines()]
    assert sorted(row["video_folder"] for row in rows) == [f"frames/{place.name}" for place in (kept, lost)]


def test_captions_may_hold_separators_of_lines(run, panda):
    (panda / "00000" / "0000000_00000.txt").write_text("one\u2028and\x85another", encoding="utf-8")
    folder, _ = run()
    assert run()[1].startswith("0 videos prepared, 2 were there")
    assert read_video_records(folder)[0].read_caption() == "one\u2028and\x85another"


def test_nothing_is_overwritten(run, tmp_path):
    run("--max_frames", "5")
    with pytest.raises(ValueError, match="was begun with max_frames=5 and not 6"):
        run("--max_frames", "6")
    foreign = tmp_path / "other" / "00000_0000000_00001"
    foreign.mkdir(parents=True)
    with pytest.raises(FileExistsError, match="1 folders, the first .*00001, exist and are not in other.jsonl"):
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
    assert "1 bad ones left out" in text
    assert [place.name for place in folder.iterdir()] == ["00000_0000000_00000"]
    with pytest.raises(ValueError, match="gives 3 frames; --min_frames is 6"):
        run("--frame_stride", "4", "--min_frames", "6", output="other")


def test_flags_that_do_not_fit_and_equal_names_are_refused(run, panda):
    with pytest.raises(ValueError, match="--height 8 and --width None go together"):
        run("--height", "8")
    with pytest.raises(ValueError, match="--resolution 8 keeps the shape"):
        run("--height", "8", "--width", "8", "--resolution", "8")
    with pytest.raises(ValueError, match="--min_frames 6 is more than --max_frames 5"):
        run("--max_frames", "5", "--min_frames", "6", "--skip_bad_clips")
    (panda / "00000_0000000_00000.mp4").write_bytes(b"")
    with pytest.raises(ValueError, match="2 videos of .* would share .*00000_0000000_00000"):
        run()
