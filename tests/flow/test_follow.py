"""Changes of a clip's ends, carried along its flow."""

import numpy as np
import torch

from utils.flow.follow import follow_ends, ways_to_ends
from utils.scenes import render_clip, sample_clip
from utils.video import to_pixels


def test_what_moves_takes_its_change_along():
    """A square that goes right, two pixels a frame, and was painted in both ends."""
    F, side = 4, 16
    source = torch.zeros(F, 3, side, side)
    flow = torch.zeros(F - 1, 2, side, side)
    back = torch.zeros(F - 1, 2, side, side)
    for t in range(F):
        place = slice(2 + 2 * t, 6 + 2 * t)
        source[t, :, 5:9, place] = 0.8
        if t < F - 1:
            flow[t, 0, 5:9, place] = 2
        if t > 0:
            back[t - 1, 0, 5:9, place] = -2
    painted = source.clone()
    painted[:, 0][source[:, 0] > 0] = -0.8  # another colour
    frames = follow_ends(source, painted[0], painted[-1], flow, back)
    torch.testing.assert_close(frames, painted, atol=1e-2, rtol=0)


def test_ways_are_sums_of_steady_flow():
    flow = torch.full((3, 2, 4, 4), 1.0)
    to_first, to_last = ways_to_ends(flow, -flow)
    assert to_first[:, 0, 0, 0].tolist() == [0, -1, -2, -3]
    assert to_last[:, 0, 0, 0].tolist() == [3, 2, 1, 0]


def test_the_frames_of_a_clip_come_back_from_its_ends_by_its_exact_flow():
    clip = render_clip(sample_clip(3, 6), 32)
    video = to_pixels(np.stack(list(clip.video)))
    flow, back = (torch.from_numpy(one) for one in (clip.flow, clip.backward_flow))
    frames = follow_ends(video, video[0], video[-1], flow, back)
    faded = torch.lerp(video[:1], video[-1:], torch.linspace(0, 1, 6).view(-1, 1, 1, 1))
    assert torch.equal(frames[[0, -1]], video[[0, -1]])
    assert (frames - video).abs().mean() < 0.5 * (faded - video).abs().mean()
