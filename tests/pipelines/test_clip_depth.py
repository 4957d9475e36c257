"""Depth of a video by the joint model, frame by frame."""

import numpy as np
import pytest
import torch

from pipelines.clip_depth import align_frames, sample_clip_depth, static_change, write_clip_depth
from pipelines.image_pairs import load_joint
from utils.depth import read_disparity
from utils.video import read_video


@pytest.fixture(scope="module")
def pipe(folders):
    return load_joint(str(folders.model), {"depth": str(folders.adapters / "depth.safetensors")})


@pytest.fixture
def video():
    return torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_a_frame_has_the_depth_that_it_has_as_an_image_whatever_is_sampled_with_it(pipe, video):
    options = {"num_inference_steps": 2, "align": False, "seed": 3}
    depth = sample_clip_depth(pipe, video, batch_size=2, **options)
    assert depth.shape == (3, 32, 32) and depth.dtype == np.float32
    for frame, one in zip(video, depth, strict=True):
        np.testing.assert_allclose(sample_clip_depth(pipe, frame[None], **options)[0], one, atol=1e-4)
    with_words = sample_clip_depth(pipe, video, prompt="a cube", batch_size=2, **options)
    assert not np.allclose(depth, with_words, atol=1e-3)


def test_the_seed_decides_the_noise_of_each_step_and_frame(folders, video):
    pipe = load_joint(str(folders.model), {"depth": str(folders.adapters / "depth.safetensors")}, None, "DDPMScheduler")
    still = video[:1].expand(2, -1, -1, -1)
    first, again = (sample_clip_depth(pipe, still, align=False, num_inference_steps=3, seed=1) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_allclose(first[0], first[1], atol=1e-4)


def test_equal_frames_have_equal_depth_from_one_noise_and_not_from_noise_of_their_own(pipe, video):
    still = video[:1].expand(2, -1, -1, -1)
    same, own = (sample_clip_depth(pipe, still, same_noise=same, align=False, num_inference_steps=2) for same in (1, 0))
    np.testing.assert_allclose(same[0], same[1], atol=1e-4)
    assert np.abs(own[0] - own[1]).max() > 1e-2


def test_frames_are_aligned_where_the_video_stands_still():
    depth = np.random.default_rng(0).uniform(-0.5, 0.5, (3, 8, 8)).astype(np.float32)
    depth[1:] = depth[0]
    video = torch.zeros(3, 3, 8, 8)
    changed = np.stack([depth[0], 0.5 * depth[1] + 0.2, 2 * depth[2] - 0.1])
    changed[2, :2], video[2, :, :2] = 0.9, 1.0  # something passes in the last frame
    aligned = align_frames(changed, video)
    np.testing.assert_allclose(aligned[1], depth[1], atol=1e-5)
    np.testing.assert_allclose(aligned[2, 2:], depth[2, 2:], atol=1e-5)
    assert (aligned[2, :2] > 0.4).all()


def test_a_video_in_which_everything_moves_is_aligned_by_all_pixels():
    depth = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 8, 8)).astype(np.float32)
    depth[1] = 0.5 * depth[0]
    moving = torch.stack([torch.zeros(3, 8, 8), torch.ones(3, 8, 8)])
    np.testing.assert_allclose(align_frames(depth, moving)[1], depth[0], atol=1e-5)


def test_depth_is_written_as_videos_and_exactly(tmp_path, video):
    depth = np.random.default_rng(0).uniform(-1, 1, (3, 32, 32)).astype(np.float32)
    files = write_clip_depth(tmp_path, video, depth, 5)
    assert {file.name for file in files} == {file.name for file in tmp_path.iterdir()} and len(files) == 5
    read = read_video(tmp_path / "side_by_side.mp4")
    assert read.pixels.shape == (3, 3, 32, 64) and read.fps == 5
    stored = read_disparity(tmp_path / "depth_001_16bit.png", "disparity") * 2 - 1
    np.testing.assert_allclose(stored, depth[1], atol=1e-4)


def test_the_change_of_depth_counts_where_the_video_stands_still():
    video, depth = torch.zeros(2, 3, 4, 4), np.zeros((2, 4, 4), np.float32)
    video[1, :, :2], depth[1, :2], depth[1, 2:] = 1, 0.9, 0.1
    assert static_change(depth, video) == pytest.approx(0.05)
    video[1] = 1
    assert static_change(depth, video) is None
