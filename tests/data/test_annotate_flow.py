"""Flow is made once, kept with what decided it, and read with the clips."""

import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.numbered_clips import numbered
from utils.data import prepare_dataset
from utils.data.annotate_flow import main
from utils.data.clip_geometry import ClipGeometry
from utils.data.flow_folder import attach_flow
from utils.data.video_records import read_video_records
from utils.data.videos import ClipOptions, VideoDataset
from utils.flow import estimate_flow, find_occlusion, warp
from utils.video import write_video

OPTIONS = ClipOptions(num_frames=3, height=32, width=32, first_frames=True, center_crop=True)


@pytest.fixture
def run(procedural, tmp_path, capsys):
    """Annotate the two procedural clips; returns the output folder and the line that is printed."""

    def annotate(*flags, output="flow", data=procedural):
        main(["--train_data_dir", str(data), "--output_dir", str(tmp_path / output), *flags])
        return tmp_path / output, capsys.readouterr().out

    return annotate


def arrays(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.npy")}


def test_flow_is_that_of_the_backend_forward_and_back(run, procedural):
    folder, text = run("--backward")
    assert text.startswith("2 clips annotated")
    pixels = VideoDataset(read_video_records(procedural), replace(OPTIONS, num_frames=6))[1]["pixel_values"]
    forward = np.load(folder / "flow" / "videos" / "0000001.npy")
    back = np.load(folder / "backward_flow" / "videos" / "0000001.npy")
    assert forward.dtype == back.dtype == np.float16
    assert (forward == estimate_flow(pixels).half().numpy()).all()
    assert (back == estimate_flow(pixels.flip(0)).flip(0).half().numpy()).all()


def test_the_data_set_reads_the_annotation_as_part_of_the_sample(run, procedural):
    folder, _ = run("--backward")
    records = attach_flow(read_video_records(procedural), folder)
    dataset = VideoDataset(records, OPTIONS, ("flow", "backward_flow"))
    sample = dataset.sample(0, ClipGeometry(32, 32), start=2)
    for name in ("flow", "backward_flow"):
        assert sample[name].shape == (2, 2, 32, 32)
        assert (sample[name].numpy() == np.load(folder / name / "videos" / "0000000.npy")[2:4]).all()


def test_strides_and_rates_connect_the_frames_that_a_sample_shows(run, panda):
    flags = ("--frame_stride", "2", "--fps", "4", "--resolution", "16")
    folder, _ = run(*flags, data=panda)
    options = replace(OPTIONS, frame_stride=2, fps=4.0)
    records = attach_flow(read_video_records(panda), folder)
    assert np.load(records[0].flow).shape == (4, 2, 16, 24)  # 12 frames at 8 fps are 6 at 4 fps
    assert VideoDataset(records, options, ("flow",))[0]["flow"].shape == (2, 2, 32, 32)
    with pytest.raises(ValueError, match="was made with frame_stride=2 and fps=4.0, not 1 and None"):
        VideoDataset(records, OPTIONS, ("flow",))


def test_samples_end_where_the_annotation_ends(run, procedural):
    folder, _ = run("--max_frames", "4")
    records = attach_flow(read_video_records(procedural), folder)
    VideoDataset(records, replace(OPTIONS, num_frames=4), ("flow",))[0]
    with pytest.raises(ValueError, match="has 4 frames and 5 are needed"):
        VideoDataset(records, replace(OPTIONS, num_frames=5), ("flow",))[0]


def test_the_manifest_tells_the_tool_its_settings_and_checksums(run, procedural):
    folder, _ = run("--preset", "fast", "--backward")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["backend"] == "dis"
    assert manifest["preset"] == "fast"
    assert manifest["version"].startswith("opencv ")
    rows = [json.loads(line) for line in (folder / "files-00000-of-00001.jsonl").read_text().splitlines()]
    assert [row["key"] for row in rows] == ["videos/0000000", "videos/0000001"]
    for row in rows:
        assert row["shape"] == [5, 2, 32, 32]
        for name, checksum in row["sha256"].items():
            content = (folder / name / f"{row['key']}.npy").read_bytes()
            assert hashlib.sha256(content).hexdigest() == checksum


def test_shards_together_give_what_one_run_gives(run, procedural):
    whole, _ = run()
    parts = [run("--num_shards", "2", "--shard_index", str(index), output="parts") for index in range(2)]
    assert [text.split(",")[0] for _, text in parts] == ["1 clip annotated"] * 2
    assert arrays(parts[0][0]) == arrays(whole)
    attach_flow(read_video_records(procedural), parts[0][0])


def test_a_missing_shard_is_named(run, procedural):
    folder, _ = run("--num_shards", "2")
    with pytest.raises(ValueError, match=r"has no flow of 1 of 2 clips, the first videos/0000001; make it with"):
        attach_flow(read_video_records(procedural), folder)
    with pytest.raises(FileNotFoundError, match="no manifest.json"):
        attach_flow(read_video_records(procedural), folder.parent)


def test_a_run_that_was_interrupted_continues_with_other_shards_too(run):
    folder, _ = run("--num_shards", "2")
    before = (folder / "flow" / "videos" / "0000000.npy").stat().st_mtime_ns
    (folder / "flow" / "videos" / ".tmp-1-0000001.npy").touch()
    journal = folder / "files-00000-of-00002.jsonl"
    journal.write_text(journal.read_text() + '{"key": "vid')
    _, text = run()
    assert text.startswith("1 clip annotated, 1 already there")
    assert (folder / "flow" / "videos" / "0000000.npy").stat().st_mtime_ns == before
    assert run()[1].startswith("0 clips annotated, 2 already there")
    assert len(arrays(folder)) == 2


def test_files_that_other_shards_are_writing_are_left_alone(run, tmp_path):
    """Shards start together: one may find the manifest of another unfinished, and names that end like its own."""
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / ".tmp-1-manifest.json").touch()
    folder, _ = run("--num_shards", "2", output="parts")
    other = folder / "flow" / "videos" / ".tmp-1-other-0000001.npy"
    other.touch()
    run("--num_shards", "2", "--shard_index", "1", output="parts")
    assert other.is_file()


def test_verifying_makes_anew_what_was_changed(run):
    folder, _ = run()
    before = arrays(folder)
    path = folder / "flow" / "videos" / "0000001.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert run()[1].startswith("0 clips annotated")
    assert run("--verify")[1].startswith("1 clip annotated, 1 already there")
    assert arrays(folder) == before


def test_verifying_follows_a_clip_that_was_changed_whatever_shard_made_it(run, panda):
    folder, _ = run("--num_shards", "2", "--shard_index", "1", data=panda)
    write_video(panda / "00000" / "0000000_00001.mp4", numbered(9), fps=8)
    assert run("--verify", data=panda)[1].startswith("2 clips annotated")
    assert np.load(folder / "flow" / "00000" / "0000000_00001.npy").shape == (8, 2, 32, 48)
    assert run("--verify", data=panda)[1].startswith("0 clips annotated, 2 already there")


def test_other_settings_and_foreign_folders_are_refused(run, tmp_path):
    run("--preset", "fast")
    with pytest.raises(ValueError, match="was begun with preset='fast' and not 'medium'"):
        run()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").touch()
    with pytest.raises(FileExistsError, match=r"has content and no manifest.json"):
        run(output="other")


def test_flags_that_do_not_fit_are_refused_before_anything_is_written(run, tmp_path):
    with pytest.raises(ValueError, match="--checkpoint x does not belong to --backend dis"):
        run("--checkpoint", "x")
    with pytest.raises(ValueError, match="--preset fast does not belong to --backend unimatch"):
        run("--backend", "unimatch", "--preset", "fast")
    with pytest.raises(FileNotFoundError, match="There is no checkpoint x"):
        run("--backend", "unimatch", "--checkpoint", "x")
    with pytest.raises(ValueError, match="--backend unimatch needs a --checkpoint"):
        run("--backend", "unimatch")
    with pytest.raises(ValueError, match="--shard_index 2 is not in 0 to 1"):
        run("--shard_index", "2", "--num_shards", "2")
    for flag in ("--fps", "--frame_folder_fps"):
        with pytest.raises(SystemExit):
            run(flag, "0", "--skip_bad_clips")
    assert not (tmp_path / "flow").exists()


def test_bad_clips_raise_or_are_counted_and_leave_no_file(run, panda):
    data = bytearray((panda / "00000" / "0000000_00001.mp4").read_bytes())
    middle = (data.index(b"mdat") + len(data)) // 2
    data[middle:] = bytes(len(data) - middle)
    (panda / "00000" / "0000000_00001.mp4").write_bytes(data)
    with pytest.raises(ValueError, match=r"0000000_00001.mp4"):
        run(data=panda)
    folder, text = run("--skip_bad_clips", data=panda)
    assert "1 bad one left out" in text
    assert [path.name for path in folder.rglob("*.npy")] == ["0000000_00000.npy"]
    with pytest.raises(ValueError, match="has 12 frames; flow at --frame_stride 12 needs more"):
        run("--frame_stride", "12", data=panda, output="other")
    with pytest.raises(ValueError, match="has 12 frames, --max_frames is 1; flow at --frame_stride 1 needs more"):
        run("--max_frames", "1", data=panda, output="one")


@pytest.mark.parametrize("name", ["wolf", "car-turn"])
def test_a_real_clip_goes_through_prepare_annotate_and_the_loader(run, shared_media, tmp_path, name):
    small = ["--max_frames", "8", "--frame_stride", "4", "--resolution", "96"]
    source = str(shared_media / f"{name}.mp4")
    prepare_dataset.main(["--video_dir", source, "--output_dir", str(tmp_path / "frames"), *small])
    folder, _ = run("--backward", data=tmp_path / "frames")
    records = attach_flow(read_video_records(tmp_path / "frames"), folder)
    sample = VideoDataset(records, ClipOptions(8, 96, 96, center_crop=True), ("flow", "backward_flow"))[0]
    pixels, flow = sample["pixel_values"], sample["flow"]
    assert (warp(pixels[1:], flow) - pixels[:-1]).abs().mean() < 0.75 * (pixels[1:] - pixels[:-1]).abs().mean()
    assert find_occlusion(flow, sample["backward_flow"]).float().mean() < 0.1


def test_nothing_is_begun_before_the_first_clip_is_finished(run, panda):
    whole = {path: path.read_bytes() for path in panda.rglob("*.mp4")}
    for path in whole:
        path.write_bytes(b"no video")
    with pytest.raises(ValueError, match="cannot be read as a video"):
        run(data=panda)
    folder, text = run("--skip_bad_clips", data=panda)
    assert "0 clips annotated" in text
    assert not (folder / "manifest.json").exists()
    for path, content in whole.items():
        path.write_bytes(content)
    run("--preset", "fast", data=panda)
    assert json.loads((folder / "manifest.json").read_text())["preset"] == "fast"


def test_a_shard_that_starts_while_another_makes_its_first_clip_is_not_refused(run, tmp_path):
    (tmp_path / "parts" / "flow" / "videos").mkdir(parents=True)
    (tmp_path / "parts" / "flow" / "videos" / ".tmp-1-0000000.npy").touch()
    _, text = run("--num_shards", "2", "--shard_index", "1", output="parts")
    assert text.startswith("1 clip annotated")


def test_flow_that_is_read_is_never_replaced(run, procedural, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(procedural, data)
    (data / "flow" / "videos").mkdir()
    rows = [json.loads(line) for line in (data / "metadata.jsonl").read_text().splitlines()]
    for row in rows:
        name = row["flow_file_name"].replace("flow/", "flow/videos/")
        (data / row["flow_file_name"]).rename(data / name)
        row["flow_file_name"] = name
    (data / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    before = arrays(data)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "flow").symlink_to(data / "flow")
    for output in ("data", "out"):
        with pytest.raises((ValueError, FileExistsError), match="choose another"):
            run(data=data, output=output)
    assert arrays(data) == before


def test_a_clip_whose_name_is_too_long_is_refused_before_any_work_or_left_out(run, tmp_path):
    name = "x" * 252
    for folder in (name, "short"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for number, frame in enumerate(numbered(3)):
            Image.fromarray(frame).save(tmp_path / "data" / folder / f"{number}.png")
    with pytest.raises(ValueError, match="has 256 bytes"):
        run(data=tmp_path / "data")
    folder, text = run("--skip_bad_clips", data=tmp_path / "data")
    assert "1 clip annotated, 0 already there, 1 bad" in text
    assert "0 clips annotated, 1 already there, 1 bad" in run("--skip_bad_clips", data=tmp_path / "data")[1]


def test_an_output_that_is_a_file_is_refused(run, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match="is a file; choose another --output_dir"):
        run(output="file")
