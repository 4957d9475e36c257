"""Where points go is found in the video itself."""

import numpy as np
import torch

from utils.scenes import render_clip, sample_clip
from utils.tracks.drawing import LEGEND_HEIGHT, OBTAINED, WANTED, track_sheet
from utils.tracks.found import find_paths
from utils.video import to_pixels


def test_points_are_followed_and_a_still_video_keeps_them():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (24, 24, 3), dtype=np.uint8).repeat(4, axis=0).repeat(4, axis=1)
    points = torch.tensor([[40.0, 40.0], [60.0, 30.0]])
    moved = to_pixels(np.stack([np.roll(image, 2 * k, axis=1) for k in range(5)]))
    found = find_paths(moved, points)
    steps = torch.arange(5)[:, None, None] * torch.tensor([2.0, 0.0])
    assert found.shape == (5, 2, 2) and (found - (points + steps)).abs().max() < 0.5
    assert (find_paths(moved[:1].expand(5, -1, -1, -1), points) - points).abs().max() < 0.1


def test_on_true_clips_they_stay_near_the_truth():
    errors, asked = [], []
    for seed in (3_000_000, 3_000_003, 3_000_005):
        clip = render_clip(sample_clip(seed, 6), 64)
        tracks = torch.from_numpy(np.asarray(clip.tracks)).float()[:, np.asarray(clip.visible).all(axis=0)]
        found = find_paths(to_pixels(clip.video), tracks[0])
        errors += [(found - tracks)[-1].norm(dim=-1).mean().item()]
        asked += [(tracks[-1] - tracks[0]).norm(dim=-1).mean().item()]
    assert sum(errors) < 0.4 * sum(asked)


def test_a_legend_says_which_colour_is_which():
    sheet = np.asarray(track_sheet(np.zeros((2, 256, 256, 3), np.uint8), torch.zeros(2, 1, 2), torch.zeros(2, 1, 2)))
    legend = sheet[256:]
    assert legend.shape == (LEGEND_HEIGHT, 3 * 256, 3)
    for color in (WANTED, OBTAINED):
        assert (legend == color).all(axis=-1).sum() > 20
    assert (legend < 100).all(axis=-1).sum() > 100  # words
    only = np.asarray(track_sheet(np.zeros((2, 256, 256, 3), np.uint8), torch.zeros(2, 1, 2)))[256:]
    assert not (only == OBTAINED).all(axis=-1).any()
