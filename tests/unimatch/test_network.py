"""What the network does, whatever its weights are."""

import pytest
import torch

from benchmarks.seeded_unimatch import make_model
from unimatch import (
    CONFIGURATIONS,
    UniMatch,
    consistency_error,
    estimate_both_flows,
    estimate_flow,
    find_occlusion,
    windows,
)
from unimatch.inference import pad, unpad
from unimatch.matching import flow_correlation, global_match, local_match
from unimatch.upsampling import upsample_convex

F = torch.nn.functional


def distinct_features(shift=0):
    """Maps (1, 64, 8, 8) of which every pixel correlates with itself alone, moved right by `shift`."""
    return (60 * torch.eye(64).view(1, 64, 8, 8)).roll(shift, dims=-1)


def test_both_ways_are_the_two_single_runs(model, images):
    forward, backward = estimate_both_flows(model, *images)
    for flow, pair in ((forward, images), (backward, images[::-1])):
        alone = estimate_flow(model, *pair)
        assert (flow - alone).norm(dim=1).mean() < 1e-3 * alone.norm(dim=1).mean()


def test_a_batch_is_its_rows(scale1, images):
    both = estimate_flow(scale1, torch.cat(images), torch.cat(images[::-1]))
    torch.testing.assert_close(both[:1], estimate_flow(scale1, *images), atol=5e-3, rtol=1e-3)
    torch.testing.assert_close(both[1:], estimate_flow(scale1, *images[::-1]), atol=5e-3, rtol=1e-3)


def test_global_and_local_matching_find_a_shift():
    for match in (global_match, lambda a, b: local_match(a, b, 3)):
        flow = match(distinct_features(), distinct_features(2))[..., :-2]
        torch.testing.assert_close(flow, torch.tensor([2.0, 0.0]).view(1, 2, 1, 1).expand_as(flow), atol=1e-3, rtol=0)


def test_correlation_along_the_flow_is_that_of_interpolated_features():
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 2, 16, 7, 9, generator=generator)
    flow = torch.randn(2, 2, 7, 9, generator=generator) * 4
    found = flow_correlation(first, second, flow, radius=1)
    y, x = torch.meshgrid(torch.arange(7.0), torch.arange(9.0), indexing="ij")
    for index, (dy, dx) in enumerate((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)):
        places = torch.stack([(x + flow[:, 0] + dx) / 4 - 1, (y + flow[:, 1] + dy) / 3 - 1], dim=-1)
        sampled = F.grid_sample(second, places, align_corners=True)
        torch.testing.assert_close(found[:, index], (first * sampled).sum(1) / 4, atol=1e-4, rtol=1e-4)


def test_windows_come_back_and_their_masks_are_made_once():
    x = torch.randn(2, 8, 12, 5)
    for shifted in (False, True):
        assert (windows.from_windows(windows.to_windows(x, 2, shifted), 8, 12, 2, shifted) == x).all()
    first = windows.shift_mask(8, 12, 2, torch.device("cpu"), torch.float32)
    assert windows.shift_mask(8, 12, 2, torch.device("cpu"), torch.float32) is first
    assert first.shape == (4, 24, 24)
    assert (first[0] == 0).all(), "the first window is of one piece"
    assert first[3].unique().tolist() == [-100, 0]


def test_convex_upsampling_of_a_constant_flow_scales_it_inside():
    flow = torch.tensor([1.0, -2.0]).view(1, 2, 1, 1).expand(1, 2, 4, 5)
    fine = upsample_convex(flow, torch.randn(1, 9 * 16, 4, 5), 4)
    assert fine.shape == (1, 2, 16, 20)
    inner = fine[..., 4:-4, 4:-4]
    torch.testing.assert_close(inner, (4 * flow[..., :2, :3]).repeat_interleave(4, -1).repeat_interleave(4, -2))


@pytest.mark.parametrize(("name", "factor"), [("scale1", 16), ("scale2", 32), ("scale2_regrefine6", 32)])
def test_any_size_is_padded_and_comes_back(name, factor, images):
    assert CONFIGURATIONS[name].padding_factor == factor
    cut = [image[..., :51, :75] for image in images]
    model = make_model(name)
    flow = estimate_flow(model, *cut)
    assert flow.shape == (1, 2, 51, 75)
    padded = [pad(image, factor) for image in cut]
    assert not any(side % factor for side in padded[0].shape[-2:])
    assert (unpad(padded[0], 51, 75) == cut[0]).all()
    expected = unpad(model(*padded)["flow_preds"][-1], 51, 75)
    torch.testing.assert_close(flow, expected, atol=0.02, rtol=1e-3)


def test_another_inference_size_scales_the_vectors(scale1, images):
    flow = estimate_flow(scale1, *images, size=(32, 48))
    small = [F.interpolate(image, (32, 48), mode="bilinear", align_corners=True) for image in images]
    expected = 2 * F.interpolate(estimate_flow(scale1, *small), (64, 96), mode="bilinear", align_corners=True)
    torch.testing.assert_close(flow, expected, atol=5e-3, rtol=1e-3)
    with pytest.raises(ValueError, match=r"size=\(30, 48\).*multiples of 16"):
        estimate_flow(scale1, *images, size=(30, 48))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_runs_and_its_flow_is_float32(dtype, images):
    model = make_model("scale1")
    exact = estimate_flow(model, *images)
    flow = estimate_flow(model.to(dtype), *images)
    assert flow.dtype == torch.float32
    assert flow.isfinite().all()
    # A random network magnifies rounding; that of trained weights is far smaller.
    assert (flow - exact).norm(dim=1).mean() < 0.4 * exact.norm(dim=1).mean()


def test_what_does_not_return_is_occluded():
    forward = torch.zeros(1, 2, 8, 12)
    forward[:, 0] = 3.0
    backward = -forward.clone()
    backward[..., 6] = 4.0
    hidden = find_occlusion(forward, backward)
    assert hidden[..., 3].all(), "lands on column 6, which points elsewhere"
    assert hidden[..., 9:].all(), "leaves the picture"
    assert not hidden[..., [0, 1, 2, 4, 5, 6, 7, 8]].any()
    torch.testing.assert_close(consistency_error(forward, backward)[..., 0], torch.zeros(1, 8))


def test_masks_made_in_inference_mode_serve_training(images):
    model = make_model("scale1")
    estimate_flow(model, *images)
    model.requires_grad_(True)
    model(*images)["flow_preds"][-1].mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, a, b: m(a[..., :50], b[..., :50]), "multiples of 16; unimatch.estimate_flow pads"),
        (lambda m, a, b: m(a, b, attn_splits_list=[2, 8]), "one entry a scale, so 1"),
        (lambda m, a, b: m(a, b, attn_type="dense"), "attn_type='dense'"),
        (lambda m, a, b: m(a, b, task="stereo"), "task='stereo'"),
        (lambda m, a, b: estimate_flow(m, a[0], b[0]), r"\(B, 3, H, W\)"),
        (lambda m, a, b: UniMatch(num_scales=3), "num_scales=3"),
    ],
)
def test_what_it_cannot_do_is_said_in_one_sentence(scale1, images, call, message):
    with pytest.raises(ValueError, match=message):
        call(scale1, *images)
