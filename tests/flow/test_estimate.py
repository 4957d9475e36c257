"""Backends of optical flow behind one function."""

import sys

import pytest
import torch

import unimatch
from benchmarks.seeded_unimatch import make_model
from utils.flow import both_flows_estimator, estimate_flow, flow_estimator, read_flo
from utils.images import read_image, to_pixels
from utils.metrics.flow import end_point_error
from utils.scenes import render_clip, sample_clip


def blobs(shift=0, size=64):
    """A smooth image moved to the right."""
    x = torch.arange(size).float() - shift
    waves = torch.sin(x * 0.4)[None] * torch.cos(torch.arange(size) * 0.3)[:, None]
    return waves.expand(3, size, size) * 0.8


def test_dis_on_rubberwhale_is_within_a_quarter_of_a_pixel(shared_media):
    frames = [to_pixels(read_image(shared_media / f"rubberwhale_frame{n}.png")) for n in (10, 11)]
    truth = torch.from_numpy(read_flo(shared_media / "rubberwhale_gt.flo"))
    assert end_point_error(estimate_flow(torch.stack(frames))[0], truth) <= 0.25


def test_dis_finds_a_shift():
    flow = estimate_flow(torch.stack([blobs(), blobs(2), blobs(4)]))
    assert flow.shape == (2, 2, 64, 64)
    middle = flow[..., 16:48, 16:48]
    torch.testing.assert_close(middle.mean((0, 2, 3)), torch.tensor([2.0, 0.0]), atol=0.2, rtol=0)


def test_another_inference_size_gives_vectors_of_the_videos_size():
    flow = estimate_flow(torch.stack([blobs(), blobs(2)]), inference_size=(128, 192))
    assert flow.shape == (1, 2, 64, 64)
    assert flow[0, 0, 16:48, 16:48].mean() == pytest.approx(2, abs=0.2)


def test_exact_gives_the_truth_of_a_clip():
    clip = sample_clip(3, 2)
    rendering = render_clip(clip, 24, samples=1)
    video = torch.from_numpy(rendering.video).permute(0, 3, 1, 2) / 127.5 - 1
    assert (estimate_flow(video, "exact", clip=clip) == torch.from_numpy(rendering.flow)).all()
    with pytest.raises(ValueError, match="2 square frames"):
        estimate_flow(video[..., :12], "exact", clip=clip)


@pytest.mark.parametrize(
    ("video", "message"),
    [
        (torch.zeros(1, 3, 64, 64), "at least 2 frames"),
        (torch.zeros(2, 1, 64, 64), r"\(2, 1, 64, 64\)"),
        (torch.zeros(2, 3, 64, 64, dtype=torch.uint8), "uint8"),
        (torch.full((2, 3, 64, 64), 200.0), r"pixels in \[-1, 1\]"),
    ],
)
def test_other_videos_are_refused(video, message):
    with pytest.raises(ValueError, match=message):
        estimate_flow(video)


def test_unknown_backends_and_presets_are_refused():
    with pytest.raises(ValueError, match="no flow backend 'pwc'; choose one of"):
        flow_estimator("pwc")
    with pytest.raises(ValueError, match="'slow'"):
        flow_estimator("dis", preset="slow")


def test_options_that_do_not_fit_a_backend_are_refused():
    with pytest.raises(ValueError, match="dis backend has no option 'checkpoint'; it takes preset"):
        flow_estimator("dis", checkpoint="x")
    with pytest.raises(ValueError, match="exact backend needs the clip"):
        flow_estimator("exact")
    with pytest.raises(ValueError, match=r"inference_size=\(0, 4\)"):
        flow_estimator(inference_size=(0, 4))


def test_frames_too_small_for_dis_are_refused_and_may_be_enlarged():
    video = torch.stack([blobs(size=8), blobs(1, size=8)])
    with pytest.raises(ValueError, match="at least 8x12 pixels, not 8x8; give a larger inference_size"):
        estimate_flow(video)
    assert estimate_flow(video, inference_size=(32, 32)).shape == (1, 2, 8, 8)


def test_raft_without_torchvision_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ImportError, match="needs torchvision"):
        flow_estimator("raft")


def test_unimatch_matches_each_frame_with_the_next_in_pixels_of_0_to_255(tmp_path):
    model = make_model("scale1")
    torch.save({"model": model.state_dict()}, tmp_path / "weights.pth")
    video = torch.stack([blobs(), blobs(2), blobs(4)])[..., :60]
    flow = estimate_flow(video, "unimatch", checkpoint=tmp_path / "weights.pth")
    assert flow.shape == (2, 2, 64, 60)
    pixels = (video + 1) * 127.5
    torch.testing.assert_close(flow[1:], unimatch.estimate_flow(model, pixels[1:2], pixels[2:]), atol=5e-3, rtol=1e-3)
    with pytest.raises(ValueError, match="needs a checkpoint"):
        flow_estimator("unimatch")


@pytest.mark.parametrize("size", [None, (32, 64)])
def test_unimatch_finds_the_flow_and_the_flow_back_at_once(tmp_path, monkeypatch, size):
    torch.save({"model": make_model("scale1").state_dict()}, tmp_path / "weights.pth")
    options = {"backend": "unimatch", "inference_size": size, "checkpoint": tmp_path / "weights.pth"}
    video = torch.stack([blobs(), blobs(2), blobs(5)])[..., :60]
    estimate = flow_estimator(**options)
    expected = estimate(video), estimate(video.flip(0)).flip(0)
    both, passes = both_flows_estimator(**options), []
    forward = unimatch.UniMatch.forward
    monkeypatch.setattr(unimatch.UniMatch, "forward", lambda *args, **kw: passes.append(1) or forward(*args, **kw))
    for flow, one_way in zip(both(video), expected, strict=True):
        assert flow.shape == (2, 2, 64, 60)
        torch.testing.assert_close(flow, one_way, atol=5e-3, rtol=1e-3)
    assert len(passes) == 2, "one for each pair of neighbours"


def test_the_flow_back_is_that_of_the_video_run_backwards():
    video = torch.stack([blobs(), blobs(2), blobs(5)])
    flow, back = both_flows_estimator("dis")(video)
    assert (flow == estimate_flow(video)).all()
    assert (back == estimate_flow(video.flip(0)).flip(0)).all()
    with pytest.raises(ValueError, match="exact backend has no flow back"):
        both_flows_estimator("exact", clip=sample_clip(3, 2))
