"""Where pixels come from by flow between neighbours, on images whose truth is known."""

import numpy as np
import pytest
import torch

from utils.flow.backward_flow import backward_flow, move_along
from utils.scenes import render, sample_clip
from utils.scenes.motion import Clip
from utils.scenes.video import clip_flow
from utils.video import to_pixels

F, SIZE = 5, 32


def square_clip(step: int):
    """A bright square that goes to the right over a still ground: frames (F, 3, H, W), and flow (F - 1, 2, H, W)."""
    ground = torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 0.1 - 1
    frames, flow = ground.repeat(F, 1, 1, 1), torch.zeros(F - 1, 2, SIZE, SIZE)
    for k in range(F):
        left = 4 + k * step
        frames[k, :, 10:20, left : left + 8] = 0.9
        if k < F - 1:
            flow[k, 0, 10:20, left : left + 8] = step
    return frames, flow


@pytest.mark.parametrize("step", [1, 2, 4])
def test_a_thing_moves_as_a_whole_and_what_it_uncovers_is_ground(step):
    frames, flow = square_clip(step)
    moved = move_along(frames[0], flow)
    assert torch.equal(moved[0], frames[0])
    assert ((moved > 0) == (frames > 0)).float().mean() > 0.998  # the last frame has no flow of its own
    assert torch.equal(moved[:-1] > 0, frames[:-1] > 0)


def test_without_motion_nothing_changes():
    image = torch.rand(3, SIZE, SIZE)
    assert torch.allclose(move_along(image, torch.zeros(F - 1, 2, SIZE, SIZE)), image.expand(F, -1, -1, -1), atol=1e-5)


def test_a_ground_that_moves_as_a_whole_comes_from_where_it_was():
    flow = torch.zeros(F - 1, 2, SIZE, SIZE)
    flow[:, 0], flow[:, 1] = 1.5, -0.5
    way = backward_flow(flow)
    inner = way[:, :, 4:-4, 8:-8]
    wanted = -torch.arange(F)[:, None] * torch.tensor([1.5, -0.5])
    assert torch.allclose(inner, wanted[:, :, None, None].expand_as(inner), atol=1e-5)


def zoom(factor: float, H: int, W: int, steps: int = 2) -> torch.Tensor:
    """Flow (steps, 2, H, W) about the middle, and nothing else."""
    x, y = torch.meshgrid(torch.arange(W) - (W - 1) / 2, torch.arange(H) - (H - 1) / 2, indexing="xy")
    return ((factor - 1) * torch.stack([x, y])).expand(steps, 2, H, W)


def test_what_grows_shows_no_place_that_is_far_off():
    H, W = 48, 64
    flow = zoom(1.1, H, W)
    way = backward_flow(flow)
    for k in (1, 2):
        assert (way[k] - flow[0] / 0.1 * (1.1**-k - 1)).norm(dim=0).max() < 1


def test_where_motion_tears_the_image_apart_holes_show_what_is_near():
    flow = zoom(1.6, 48, 64, steps=1)
    missed = (backward_flow(flow)[1] - flow[0] / 0.6 * (1 / 1.6 - 1)).norm(dim=0)
    assert missed.max() < 8 and missed.mean() < 0.6


def test_noise_in_the_flow_of_a_thing_tears_no_holes_into_it():
    frames, flow = square_clip(3)
    noise = torch.randn(flow.shape, generator=torch.Generator().manual_seed(0))
    moved = move_along(frames[0], flow + 0.06 * flow.norm(dim=1, keepdim=True) * noise)
    for k in range(1, F):
        assert (moved[k, :, 12:18, 6 + 3 * k : 10 + 3 * k] > 0).float().mean() > 0.9


def test_on_rendered_clips_it_is_much_nearer_to_the_truth_than_the_first_frame():
    errors = []
    for seed in range(4):
        planned = sample_clip(seed, num_frames=16)
        clip = Clip(planned.scene, planned.motions, planned.camera_motion, 6)
        frames = to_pixels(np.stack([render(clip.at(k), 64).image for k in range(6)]))
        flow = torch.from_numpy(clip_flow(clip, 64)[0]).float()
        moved = move_along(frames[0], flow)
        errors.append([float((guess - frames)[1:].square().mean()) for guess in (moved, frames[:1])])
    moved, still = np.mean(errors, axis=0)
    assert moved < 0.5 * still
