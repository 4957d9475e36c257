"""Samples of clips: stretch, cut, flow, tracks, and clips that are bad."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from tests.numbered_clips import numbers_of
from utils.data.clip_geometry import ClipGeometry
from utils.data.video_records import read_video_records
from utils.data.videos import ClipOptions, VideoDataset, has_flow, read_tracks
from utils.flow import warp

OPTIONS = ClipOptions(num_frames=4, height=32, width=32)
EXTRAS = ("flow", "tracks")


@pytest.fixture
def spoiled(panda):
    """Four clips: good, cut, good, text."""
    folder = panda / "00000"
    data = (folder / "0000000_00000.mp4").read_bytes()
    (folder / "0000000_00001.mp4").write_bytes(data[: len(data) * 3 // 4])
    (folder / "0000000_00002.mp4").write_bytes(data)
    (folder / "0000000_00003.mp4").write_text("no video")
    return read_video_records(panda)


def test_a_random_stretch_is_drawn_from_the_whole_clip(video):
    dataset = VideoDataset(read_video_records(video), replace(OPTIONS, frame_stride=3))
    random.seed(0)
    stretches = {tuple(numbers_of(dataset[0]["pixel_values"])) for _ in range(30)}
    assert stretches == {(0, 3, 6, 9), (1, 4, 7, 10), (2, 5, 8, 11)}


def seeded_sample(dataset, index):
    random.seed(3)
    return dataset[index]["pixel_values"]


def test_the_same_seed_draws_the_same_sample(video):
    dataset = VideoDataset(read_video_records(video), replace(OPTIONS, height=16, width=40, random_flip=True))
    assert torch.equal(seeded_sample(dataset, 0), seeded_sample(dataset, 0))


def test_frames_are_counted_at_the_rate_that_is_asked_for(video):
    dataset = VideoDataset(read_video_records(video), replace(OPTIONS, fps=4.0, first_frames=True))
    sample = dataset[0]
    assert numbers_of(sample["pixel_values"]) == [0, 2, 4, 6]
    assert sample["fps"] == 4


def test_a_step_is_drawn_for_each_sample_and_the_rate_follows_it(video):
    dataset = VideoDataset(read_video_records(video), replace(OPTIONS, frame_strides=(1, 3), first_frames=True))
    random.seed(0)
    samples = [dataset[0] for _ in range(20)]
    drawn = {tuple(numbers_of(sample["pixel_values"])): sample["fps"] for sample in samples}
    assert drawn == {(0, 1, 2, 3): 8, (0, 3, 6, 9): 8 / 3}


def test_half_of_the_samples_run_backwards(video):
    dataset = VideoDataset(read_video_records(video), replace(OPTIONS, random_reverse=True, first_frames=True))
    random.seed(0)
    drawn = [tuple(numbers_of(dataset[0]["pixel_values"])) for _ in range(40)]
    assert set(drawn) == {(0, 1, 2, 3), (3, 2, 1, 0)}
    assert 10 < drawn.count((3, 2, 1, 0)) < 30


def test_frames_that_are_held_out_are_in_no_other_sample(video):
    dataset = VideoDataset(read_video_records(video), replace(OPTIONS, held_out_frames=5))
    random.seed(0)
    drawn = {tuple(numbers_of(dataset[0]["pixel_values"])) for _ in range(40)}
    assert drawn == {(0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (3, 4, 5, 6)}
    assert numbers_of(dataset.held_out(0)["pixel_values"]) == [7, 8, 9, 10]
    with pytest.raises(ValueError, match=r"a.mp4 has 12 frames and 13 are needed"):
        VideoDataset(read_video_records(video), replace(OPTIONS, held_out_frames=9))[0]


def test_tracks_of_a_reversed_clip_lie_on_its_frames(procedural):
    dataset = VideoDataset(read_video_records(procedural), replace(OPTIONS, random_reverse=True), ("tracks",))
    forwards = VideoDataset(read_video_records(procedural), OPTIONS, ("tracks",)).sample(0, ClipGeometry(32, 32))
    for seed in range(20):
        random.seed(seed)
        sample = dataset.draw(0)
        if torch.equal(sample["pixel_values"], forwards["pixel_values"].flip(0)):
            assert torch.equal(sample["tracks"], forwards["tracks"].flip(0))
            assert torch.equal(sample["visible"], forwards["visible"].flip(0))
            return
    raise AssertionError("no draw was the reversed stretch")


def test_annotated_flow_is_refused_where_it_would_not_fit_the_frames(procedural):
    records = read_video_records(procedural)
    assert has_flow(records, OPTIONS)
    for changes in ({"random_reverse": True}, {"frame_strides": (1, 2)}):
        options = replace(OPTIONS, num_frames=3, **changes)
        assert not has_flow(records, options)
        with pytest.raises(ValueError, match="one step and runs forwards"):
            VideoDataset(records, options, ("flow",))
    with pytest.raises(ValueError, match="frame_strides=\\(0,\\)"):
        replace(OPTIONS, frame_strides=(0,))


def test_clips_that_are_too_short_are_named(video):
    with pytest.raises(ValueError, match=r"a.mp4 has 12 frames and 16 are needed; lower --num_frames"):
        VideoDataset(read_video_records(video), replace(OPTIONS, num_frames=16))[0]
    dataset = VideoDataset(read_video_records(video), OPTIONS)
    with pytest.raises(ValueError, match=r"start=9 is not in 0 to 8"):
        dataset.sample(0, ClipGeometry(32, 32), start=9)


def test_a_bad_clip_raises_its_sentence(spoiled):
    dataset = VideoDataset(spoiled, OPTIONS)
    with pytest.raises(ValueError, match=r"00001.mp4 (is cut short|cannot be read)"):
        dataset[1]
    with pytest.raises(ValueError, match=r"00001.mp4"):
        dataset.check()


def test_bad_clips_are_passed_over_and_counted_when_asked_for(spoiled, caplog):
    dataset = VideoDataset(spoiled, OPTIONS, skip_bad_clips=True)
    assert [dataset[index]["key"][-1] for index in range(4)] == ["0", "2", "2", "0"]
    assert dataset.num_skipped == 2
    assert "Clip 1 of 4 left out, 1 so far" in caplog.text
    checked = VideoDataset(spoiled, OPTIONS, skip_bad_clips=True)
    checked.check()
    assert checked.num_skipped == 2


def test_passing_over_a_clip_draws_the_same_whether_it_was_known_or_not(spoiled):
    dataset = VideoDataset(spoiled, OPTIONS, skip_bad_clips=True)
    assert torch.equal(seeded_sample(dataset, 1), seeded_sample(dataset, 1))


def test_clips_that_were_checked_are_passed_over_when_they_turn_out_to_be_bad(spoiled, monkeypatch):
    dataset = VideoDataset(spoiled, OPTIONS, skip_bad_clips=True).without_bad_clips()
    assert len(dataset) == 2 and dataset.without_bad_clips() is dataset
    draw = VideoDataset.draw

    def fail(self, index):
        if index == 0:
            raise ValueError("a frame is damaged")
        return draw(self, index)

    monkeypatch.setattr(VideoDataset, "draw", fail)
    assert dataset[0]["key"] == dataset[1]["key"]


def test_data_workers_count_together(spoiled):
    dataset = VideoDataset(spoiled, OPTIONS, skip_bad_clips=True)
    batches = list(DataLoader(dataset, batch_size=2, num_workers=2))
    assert batches[0]["pixel_values"].shape == (2, 4, 3, 32, 32)
    assert dataset.num_skipped == 2


def test_a_data_set_of_bad_clips_ends_with_a_sentence(spoiled):
    dataset = VideoDataset([spoiled[1], spoiled[3]], OPTIONS, skip_bad_clips=True)
    with pytest.raises(ValueError, match="No clip of 2 is good"):
        dataset[0]


def test_frames_of_different_sizes_and_without_numbers_are_named(frame_folders):
    records = read_video_records(frame_folders)
    Image.new("RGB", (8, 8)).save(frame_folders / "a" / "frame_5.png")
    with pytest.raises(ValueError, match=r"frame 5 is 8x8 and those before it 48x32"):
        VideoDataset(records, replace(OPTIONS, num_frames=12))[0]
    Image.new("RGB", (48, 32)).save(frame_folders / "a" / "poster.png")
    with pytest.raises(ValueError, match=r"poster.png has no number in its name"):
        VideoDataset(records, OPTIONS)[0]


def test_procedural_clips_bring_flow_tracks_and_captions(procedural):
    rows = [json.loads(line) for line in (procedural / "metadata.jsonl").read_text().splitlines()]
    dataset = VideoDataset(read_video_records(procedural), replace(OPTIONS, num_frames=6), EXTRAS)
    sample = dataset[1]
    assert sample["caption"] == rows[1]["text"]
    assert sample["fps"] == rows[1]["fps"]
    assert (sample["flow"].half().numpy() == np.load(procedural / rows[1]["flow_file_name"])).all()
    with np.load(procedural / rows[1]["tracks_file_name"]) as arrays:
        assert (sample["tracks"].numpy() == arrays["tracks"]).all()
    assert sample["visible"].shape == (6, 8)


@pytest.mark.parametrize("flip", [False, True])
def test_flow_and_tracks_follow_resizing_cropping_and_flipping(procedural, flip):
    dataset = VideoDataset(read_video_records(procedural), replace(OPTIONS, height=48, width=64), EXTRAS)
    sample = dataset.sample(0, ClipGeometry(48, 64, left=0.5, top=0.9, flip=flip), start=1)
    pixels, flow = sample["pixel_values"], sample["flow"]
    assert flow.shape == (3, 2, 48, 64)
    moving = flow.norm(dim=1, keepdim=True) > 0.5
    assert moving.any()
    error = (warp(pixels[1:], flow) - pixels[:-1]).abs()
    still = (pixels[1:] - pixels[:-1]).abs()
    assert (error * moving).mean() < 0.5 * (still * moving).mean()
    check_that_tracks_follow_flow(sample)


def check_that_tracks_follow_flow(sample):
    seen = sample["visible"][:-1] & sample["visible"][1:]
    assert seen.any()
    for frame, (flow, visible) in enumerate(zip(sample["flow"], seen, strict=True)):
        start, end = sample["tracks"][frame][visible], sample["tracks"][frame + 1][visible]
        x, y = start.round().long().unbind(-1)
        predicted = start + flow[:, y.clamp(0, 47), x.clamp(0, 63)].T
        assert (predicted - end).norm(dim=-1).median() < 0.3


def test_a_point_outside_of_the_cut_is_not_visible(procedural):
    dataset = VideoDataset(read_video_records(procedural), replace(OPTIONS, height=16, width=64), ("tracks",))
    sample = dataset.sample(0, ClipGeometry(16, 64, top=1.0))
    y = sample["tracks"][..., 1]
    assert (y < -1).any()
    assert not sample["visible"][(y < -1) | (y > 16)].any()


def test_extras_that_do_not_fit_are_named_at_once(video, procedural):
    records = read_video_records(procedural)
    with pytest.raises(ValueError, match=r"has no flow; make it with python -m utils.data.annotate_flow"):
        VideoDataset(read_video_records(video), OPTIONS, ("flow",))
    with pytest.raises(ValueError, match="was made with frame_stride=1 and fps=None, not 2 and None"):
        VideoDataset(records, replace(OPTIONS, frame_stride=2), ("flow",))
    with pytest.raises(ValueError, match="leave fps=4 out"):
        VideoDataset(records, replace(OPTIONS, fps=4.0), ("tracks",))
    with pytest.raises(ValueError, match="num_frames=1: flow needs at least 2 frames"):
        VideoDataset(records, replace(OPTIONS, num_frames=1), ("flow",))
    with pytest.raises(ValueError, match="no extra 'sound'"):
        VideoDataset(records, OPTIONS, ("sound",))
    with pytest.raises(ValueError, match="frame_stride=0 is not positive"):
        ClipOptions(frame_stride=0)


def test_pixels_of_that_size_stay_as_they_are(procedural):
    dataset = VideoDataset(read_video_records(procedural), OPTIONS)
    with Image.open(procedural / "videos" / "0000000" / "00002.png") as image:
        expected = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 127.5 - 1
    assert torch.equal(dataset.sample(0, ClipGeometry(32, 32))["pixel_values"][2], expected)


def write_cut_archive(path):
    np.savez_compressed(path, tracks=np.zeros((9, 4, 2)), visible=np.ones((9, 4), bool))
    path.write_bytes(path.read_bytes()[:200])


def write_transposed(path):
    np.savez(path, tracks=np.zeros((4, 9, 2)), visible=np.ones((9, 4), bool))


TRACKS = {
    "cannot be read as an archive of arrays": write_cut_archive,
    "cannot be read as an archive of arrays: it is neither": lambda path: path.write_text("no archive"),
    "it lacks visible and has tracks": lambda path: np.savez(path, tracks=np.zeros((9, 4, 2))),
    r"holds tracks \(4, 9, 2\) and visible \(9, 4\); they are": write_transposed,
}


@pytest.mark.parametrize("sentence", TRACKS)
def test_files_of_tracks_that_hold_something_else_are_named_in_a_sentence(tmp_path, sentence):
    TRACKS[sentence](tmp_path / "a.npz")
    with pytest.raises(ValueError, match=f"a.npz .*{sentence}") as caught:
        read_tracks(tmp_path / "a.npz", range(3), ClipGeometry(32, 32), 32, 48)
    assert "\n" not in str(caught.value)
