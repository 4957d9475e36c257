"""What the training of Stable Video Diffusion gets of a clip, read from its frames or from a cache of latents."""

import os
import random
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.tiny_video_pipeline import tiny_video_pipeline
from utils.data.clip_geometry import ClipGeometry
from utils.data.clip_latents import CachedClips, Stretches, cache_clips, clip_identity
from utils.data.svd_clips import SVDClips, VisibleFlow
from utils.data.video_records import read_video_records
from utils.data.videos import ClipOptions, VideoDataset
from utils.flow import estimate_flow, flow_estimator
from utils.motion_helper import PROCEDURAL, cal_motion_bucket_ids

OPTIONS = ClipOptions(num_frames=4, height=32, width=32, center_crop=True, first_frames=True)
WHOLE = replace(OPTIONS, num_frames=6)


@pytest.fixture(scope="module")
def records(procedural):
    return read_video_records(procedural)


@pytest.fixture(scope="module")
def vae():
    return tiny_video_pipeline().vae


@pytest.fixture(scope="module")
def cache(records, vae, tmp_path_factory):
    """Folders of whole clips, without and with their mirror images."""
    folder = tmp_path_factory.mktemp("cache")
    return [
        cache_clips(VideoDataset(records, replace(WHOLE, random_flip=flip)), vae, folder, PROCEDURAL)
        for flip in (False, True)
    ]


def test_rate_and_bucket_are_those_of_the_stretch_that_is_drawn(records):
    sample = SVDClips(VideoDataset(records, replace(OPTIONS, num_frames=3, frame_strides=(2,))), PROCEDURAL)[1]
    assert sample["fps"] == 4
    frames = sample["pixel_values"]
    assert torch.equal(sample["image"], frames[0])
    expected = cal_motion_bucket_ids(flow_estimator("dis"), frames[None], 4.0, PROCEDURAL)[0]
    assert sample["motion_bucket_id"] == expected > 0


def test_a_fixed_bucket_is_given_whatever_the_clip_shows(records):
    clips = SVDClips(VideoDataset(records, OPTIONS), None)
    assert [(clips[i]["fps"].item(), clips[i]["motion_bucket_id"].item()) for i in range(2)] == [(7, 127)] * 2


def test_a_map_of_another_flow_is_refused(records):
    with pytest.raises(ValueError, match="flow backend 'unimatch'"):
        SVDClips(VideoDataset(records, OPTIONS), replace(PROCEDURAL, backend="unimatch"))


def test_annotated_flow_is_taken_and_missing_flow_is_estimated(records):
    annotated = VideoDataset(records, OPTIONS, ("flow",))
    plain = VideoDataset(records, OPTIONS)
    exact, estimated = (SVDClips(clips, PROCEDURAL, [VisibleFlow()])[0] for clips in (annotated, plain))
    assert torch.equal(exact["flow"], annotated[0]["flow"])
    assert torch.equal(estimated["flow"], estimate_flow(plain[0]["pixel_values"]))
    assert exact["visible"].shape == (3, 32, 32)
    assert exact["visible"].float().mean() > 0.9


def test_cached_latents_are_those_of_the_frames(records, vae, cache):
    frames = VideoDataset(records, WHOLE).sample(1, ClipGeometry(32, 32))["pixel_values"]
    cached = CachedClips(cache[0], Stretches(4), PROCEDURAL, with_pixels=True)
    with torch.no_grad():
        mode = vae.encode(frames).latent_dist.mode()
    torch.manual_seed(0)
    sample = cached[1]
    start = int(np.argmin([(frames[s] - sample["image"]).abs().max() for s in range(3)]))
    torch.testing.assert_close(sample["pixel_values"], frames[start : start + 4], rtol=0, atol=1e-5)
    torch.testing.assert_close(sample["latents"], mode[start : start + 4], rtol=1e-3, atol=2e-3)


def test_a_whole_cached_clip_has_the_conditions_of_one_that_is_read(records, cache):
    read = SVDClips(VideoDataset(records, WHOLE), PROCEDURAL, [VisibleFlow()])[1]
    whole = CachedClips(cache[0], Stretches(6), PROCEDURAL, with_pixels=True)
    cached = SVDClips(whole, PROCEDURAL, [VisibleFlow()])[1]
    assert cached.keys() == read.keys() - {"pixel_values"} | {"latents"}
    for name in ("fps", "motion_bucket_id", "visible"):
        assert torch.equal(cached[name], read[name])
    torch.testing.assert_close(cached["image"], read["image"], rtol=0, atol=1e-5)
    torch.testing.assert_close(cached["flow"], read["flow"], rtol=0, atol=1e-3)


def test_mirrored_clips_are_cached_as_well_and_half_of_the_samples(records, vae, cache):
    dataset = CachedClips(cache[1], Stretches(6), PROCEDURAL)
    assert len(dataset) == 2 and len(dataset.latents) == 4
    plain = torch.from_numpy(np.array(dataset.frames[1]))
    assert torch.equal(torch.from_numpy(np.array(dataset.frames[3])), plain.flip(2))
    with torch.no_grad():
        mirrored = vae.encode(plain.flip(2).permute(0, 3, 1, 2) / 127.5 - 1).latent_dist.mode()
    torch.testing.assert_close(torch.from_numpy(np.array(dataset.latents[3])).float(), mirrored, rtol=1e-3, atol=2e-3)
    image = plain[0].permute(2, 0, 1) / 127.5 - 1
    torch.manual_seed(0)
    drawn = [dataset[1]["image"] for _ in range(30)]
    unflipped = sum(torch.allclose(picture, image) for picture in drawn)
    assert 5 < unflipped < 25
    assert all(torch.allclose(p, image) or torch.allclose(p, image.flip(2)) for p in drawn)


def test_a_cache_is_found_again_until_what_it_depends_on_changes(records, vae, cache):
    folder = cache[0].parent
    assert cache_clips(VideoDataset(records, WHOLE), vae, folder, PROCEDURAL) == cache[0] != cache[1]
    assert cache_clips(VideoDataset(records, replace(WHOLE, num_frames=5)), vae, folder, PROCEDURAL) != cache[0]
    assert cache_clips(VideoDataset(records, WHOLE), vae, folder, replace(PROCEDURAL, time_step=0.25)) != cache[0]


def test_bad_clips_stay_out_of_a_cache_where_they_may_be_skipped(panda, vae, tmp_path):
    (panda / "00000/0000000_00000.mp4").write_text("no video")
    records = read_video_records(panda)
    folder = cache_clips(VideoDataset(records, WHOLE, skip_bad_clips=True), vae, tmp_path, PROCEDURAL)
    assert len(CachedClips(folder, Stretches(4), PROCEDURAL)) == 1
    with pytest.raises(ValueError, match="0000000_00000.mp4"):
        cache_clips(VideoDataset(records, WHOLE), vae, tmp_path, PROCEDURAL)


@pytest.mark.parametrize("flip", [False, True])
def test_a_clip_that_cannot_be_decoded_stays_out_of_a_cache_and_costs_no_other(
    records, vae, tmp_path, monkeypatch, flip
):
    read = VideoDataset.sample

    def sample(self, index, *others):
        if self.records[index].key == records[0].key:
            raise ValueError("frame 3 is damaged")
        return read(self, index, *others)

    monkeypatch.setattr(VideoDataset, "sample", sample)
    options = replace(WHOLE, random_flip=flip)
    with pytest.raises(ValueError, match="frame 3 is damaged"):
        cache_clips(VideoDataset(records, options), vae, tmp_path, PROCEDURAL)
    folder = cache_clips(VideoDataset(records, options, skip_bad_clips=True), vae, tmp_path, PROCEDURAL)
    cached = CachedClips(folder, Stretches(6), PROCEDURAL, records=records)
    assert cached.rows == list(range(1, len(records))) and len(cached) == len(records) - 1
    assert cached[0]["latents"].abs().max() > 0 and cached[0]["caption"] == records[1].read_caption()
    with pytest.raises(ValueError, match="lacks 1 clip; pass that flag again"):
        cache_clips(VideoDataset(records, options), vae, tmp_path, PROCEDURAL)


def test_clips_in_shards_are_cached(shards, vae, tmp_path):
    folder = cache_clips(VideoDataset(read_video_records(shards)[:1], replace(WHOLE, num_frames=3)), vae, tmp_path)
    assert len(CachedClips(folder, Stretches(3), PROCEDURAL)) == 1


def test_random_state_alone_decides_a_sample(records, cache):
    options = replace(
        OPTIONS, num_frames=2, frame_strides=(1, 2), random_reverse=True, random_flip=True, first_frames=False
    )
    read = SVDClips(VideoDataset(records, options), PROCEDURAL)
    cached = SVDClips(CachedClips(cache[1], Stretches(2, (1, 2), True), PROCEDURAL), PROCEDURAL)
    for clips in (read, cached):
        samples = []
        for _ in range(2):
            random.seed(5)
            torch.manual_seed(5)
            samples.append(clips[0])
        assert all(torch.equal(samples[0][name], samples[1][name]) for name in samples[0])


@pytest.mark.parametrize("name", ["videos/0000000/00002.png", "flow/0000000.npy"])
def test_a_cache_is_made_anew_when_a_file_has_another_size_and_the_same_time(procedural, tmp_path, name):
    folder = tmp_path / "data"
    shutil.copytree(procedural, folder)
    [record, _] = read_video_records(folder)
    before = clip_identity(record, ("flow",))
    assert clip_identity(record, ("flow",)) == before
    path = folder / name
    time = path.stat().st_mtime_ns
    path.write_bytes(path.read_bytes() + b"x")
    os.utime(path, ns=(time, time))
    assert clip_identity(record, ("flow",)) != before


def test_clips_of_one_shard_have_identities_of_their_own(shards):
    records = [replace(record, key="same") for record in read_video_records(shards)[:2]]
    assert clip_identity(records[0]) != clip_identity(records[1])
