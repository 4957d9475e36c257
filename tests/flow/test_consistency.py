"""A clip against its own flow."""

import pytest
import torch

from utils.flow.consistency import flow_consistency, visible_in_next
from utils.scenes import render_clip, sample_clip


def shifted(F=3, side=16, step=2):
    """Latents that move `step` cells to the right in each frame, flow at 4 times the size, what is visible."""
    world = torch.randn(1, 4, side, side + F * step, generator=torch.Generator().manual_seed(0))
    frames = [world[..., (F - 1 - t) * step : (F - 1 - t) * step + side] for t in range(F)]
    flow = torch.zeros(1, F - 1, 2, 4 * side, 4 * side)
    flow[:, :, 0] = 4 * step
    visible = torch.ones(1, F - 1, 4 * side, 4 * side, dtype=torch.bool)
    visible[..., -4 * step :] = False
    return torch.stack(frames, dim=1), flow, visible


def test_a_perfectly_warped_clip_has_no_difference():
    latents, flow, visible = shifted()
    torch.testing.assert_close(flow_consistency(latents, flow, visible), torch.zeros(1), atol=1e-9, rtol=0)


def test_a_clip_that_stands_still_under_a_moving_flow_has_one():
    latents, flow, visible = shifted()
    still = latents[:, :1].expand_as(latents)
    assert flow_consistency(still, flow, visible)[0] > 0.5


def test_only_what_is_visible_counts_and_each_clip_for_itself():
    latents, flow, visible = (torch.cat([part, part]) for part in shifted())
    latents[0, 1, :, :, 8:] = 9  # in the first clip alone
    assert flow_consistency(latents, flow, visible)[0] > 1
    assert flow_consistency(latents, flow, visible)[1] == pytest.approx(0, abs=1e-9)
    hidden = visible.clone()
    hidden[0] = False
    assert flow_consistency(latents, flow, hidden)[0] == 0


def test_the_gradient_reaches_both_frames_of_a_pair():
    latents, flow, visible = shifted()
    latents = (latents + 0.1 * torch.randn(latents.shape)).requires_grad_()
    flow_consistency(latents, flow, visible).sum().backward()
    assert all(latents.grad[0, t].abs().max() > 0 for t in range(3))


def test_what_the_procedural_world_covers_is_left_out_and_the_rest_is_kept():
    seen, hidden = [], []
    for seed in range(4):
        rendering = render_clip(sample_clip(seed, 3), 64)
        frames = torch.from_numpy(rendering.video).permute(0, 3, 1, 2).float().div(127.5).sub(1)
        found = visible_in_next(frames, torch.from_numpy(rendering.flow))
        occluded = torch.from_numpy(rendering.occluded)
        seen.append(found[~occluded])
        hidden.append(found[occluded])
    assert torch.cat(seen).float().mean() > 0.98
    assert torch.cat(hidden).float().mean() < 0.1
