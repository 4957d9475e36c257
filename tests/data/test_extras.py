"""What a variant adds to samples: the same with a cache as without one, without a line about it."""

from dataclasses import replace

import pytest
import torch

from tests.tiny_video_pipeline import tiny_video_pipeline
from utils.data.clip_latents import Stretches, read_cached_clips
from utils.data.extras import Extra, annotations
from utils.data.last_frame import FlowGuess, LastFrame
from utils.data.svd_clips import SVDClips
from utils.data.video_records import read_video_records
from utils.data.videos import ClipOptions, VideoDataset
from utils.motion_helper import PROCEDURAL

WHOLE = ClipOptions(num_frames=6, height=32, width=32, center_crop=True, first_frames=True)


class Slowness(Extra):
    """An extra as a variant writes it: of annotations of the clip, and of its frames."""

    name = "slowness"
    reads = ("flow", "tracks")

    def __call__(self, clip):
        brightness = clip["pixel_values"].mean((1, 2, 3))
        return {"slowness": -clip["flow"].abs().mean((1, 2, 3)), "points": clip["tracks"], "brightness": brightness}


def dataset(folder, extras, **options):
    return VideoDataset(read_video_records(folder), replace(WHOLE, **options), annotations(extras))


def cached(folder, extras, cache_dir, stretches):
    return read_cached_clips(dataset(folder, extras), tiny_video_pipeline().vae, cache_dir, stretches, None, extras)


@pytest.mark.parametrize("extra", [Slowness(), LastFrame(), FlowGuess()], ids=["annotations", "last", "guess"])
def test_a_whole_cached_clip_has_the_entries_of_one_that_is_read(procedural, tmp_path, extra):
    read = SVDClips(dataset(procedural, [extra]), PROCEDURAL, [extra])[1]
    kept = SVDClips(cached(procedural, [extra], tmp_path, Stretches(6)), PROCEDURAL, [extra])[1]
    assert kept.keys() == read.keys() - {"pixel_values"} | {"latents"}
    for name in read.keys() - {"pixel_values", "image"}:
        torch.testing.assert_close(kept[name], read[name], rtol=0, atol=1e-5)


def test_a_stretch_has_the_rows_of_its_frames(procedural, tmp_path):
    extra = Slowness()
    whole = SVDClips(dataset(procedural, [extra]), PROCEDURAL, [extra])[0]
    clips, starts = SVDClips(cached(procedural, [extra], tmp_path, Stretches(3)), PROCEDURAL, [extra]), set()
    torch.manual_seed(0)
    for _ in range(12):
        sample = clips[0]
        start = next(s for s in range(4) if torch.equal(whole["points"][s : s + 3], sample["points"]))
        torch.testing.assert_close(sample["slowness"], whole["slowness"][start : start + 2], rtol=0, atol=1e-6)
        torch.testing.assert_close(sample["brightness"], whole["brightness"][start : start + 3], rtol=0, atol=1e-5)
        starts.add(start)
    assert starts == {0, 1, 2, 3}


def test_the_last_frame_is_that_of_the_stretch_in_its_direction(procedural, tmp_path):
    stretches = Stretches(3, (1, 2), random_reverse=True)
    frames = dataset(procedural, [])[0]["pixel_values"]
    clips = SVDClips(cached(procedural, [LastFrame()], tmp_path, stretches), PROCEDURAL, [LastFrame()])
    torch.manual_seed(0)
    ways = set()
    for _ in range(24):
        sample = clips[0]
        ends = [int((frames - sample[name]).abs().amax((1, 2, 3)).argmin()) for name in ("image", "last_image")]
        ways.add(ends[1] - ends[0])
    assert ways == {2, -2, 4, -4}


@pytest.mark.parametrize("stretches", [Stretches(3, (2,)), Stretches(3, random_reverse=True)])
def test_annotated_flow_is_not_cached_for_stretches_that_it_does_not_fit(procedural, tmp_path, stretches):
    with pytest.raises(ValueError, match="leave frame_strides and random_reverse out"):
        cached(procedural, [Slowness()], tmp_path, stretches)
    assert not any(tmp_path.iterdir())


def test_a_cache_is_made_anew_for_other_annotations_and_not_for_the_same(procedural, tmp_path):
    for _ in range(2):
        cached(procedural, [Slowness(), LastFrame()], tmp_path, Stretches(3))
    assert sorted(path.name.split("-")[0] for path in tmp_path.iterdir()) == ["clips", "slowness"]
    record = read_video_records(procedural)[0]
    content = record.tracks.read_bytes()
    try:
        record.tracks.write_bytes(content + b"\0")
        cached(procedural, [Slowness()], tmp_path, Stretches(3))
    finally:
        record.tracks.write_bytes(content)
    assert sorted(path.name.split("-")[0] for path in tmp_path.iterdir()) == ["clips", "slowness", "slowness"]
