"""Segments that carry on from one another."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.long_video import count_overlap, hold, join, sample_long_video, segment_starts
from pipelines.pipeline_stable_video_diffusion import StableVideoDiffusionEDMPipeline
from tests.tiny_pipeline import quiet
from utils.diffusion.sampling import VideoSampling

STEPS = {"num_inference_steps": 2, "fps": 8}


def make_image(seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8))


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def pipe(tiny_svd):
    return quiet(StableVideoDiffusionEDMPipeline(**tiny_svd.components))


def test_one_segment_is_an_ordinary_video(pipe):
    expected = pipe(make_image(), generator=seeded(0), output_type="pt", **STEPS).frames
    video = sample_long_video(pipe, make_image(), 4, generator=seeded(0), **STEPS)
    assert video.starts == (0,)
    torch.testing.assert_close(video.pixels / 2 + 0.5, expected)


def test_a_restart_is_a_video_from_the_last_frame(pipe):
    generator = seeded(0)
    first = pipe.decode(
        pipe.denoise(pipe.prepare(make_image(), sampling=VideoSampling(**STEPS), generator=generator))
    ).clamp(-1, 1)
    second = pipe.decode(
        pipe.denoise(pipe.prepare(first[:, -1], sampling=VideoSampling(**STEPS), generator=generator))
    ).clamp(-1, 1)
    video = sample_long_video(pipe, make_image(), 7, "restart", generator=seeded(0), **STEPS)
    torch.testing.assert_close(video.pixels, torch.cat([first, second[:, 1:]], dim=1))
    assert video.starts == (0, 4)


def test_known_latents_stay_as_they_are_at_every_noise_level(pipe):
    inputs = pipe.prepare(make_image(), sampling=VideoSampling(**STEPS), generator=seeded(0))
    known = torch.randn(1, 2, 4, 8, 8, generator=seeded(1))
    seen = []
    pipe.unet.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][-1:, :, :4]))
    latents = pipe.denoise(hold(inputs, known))
    assert torch.equal(latents[:, :2], known)
    assert not torch.equal(latents[:, 2:], pipe.denoise(inputs)[:, 2:])
    for sample, sigma in zip(seen[:2], inputs.video.sigmas[:2], strict=True):
        noise = inputs.video.latents[:, :2] / inputs.video.sigmas[0]
        torch.testing.assert_close(sample[:, :2] * (sigma**2 + 1).sqrt(), known + sigma * noise, rtol=1e-4, atol=1e-4)


def test_known_latents_are_free_below_the_release(pipe):
    inputs = pipe.prepare(make_image(), sampling=VideoSampling(**STEPS), generator=seeded(0))
    known = torch.randn(1, 2, 4, 8, 8, generator=seeded(1))
    first, second, _ = inputs.video.sigmas.tolist()
    seen = []
    pipe.unet.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][-1:, :, :4]))
    latents = pipe.denoise(hold(inputs, known, release_sigma=(first + second) / 2))
    expected = known + second / first * inputs.video.latents[:, :2]  # held in the first step, free in the second
    torch.testing.assert_close(seen[1][:, :2] * (second**2 + 1) ** 0.5, expected, rtol=1e-4, atol=1e-4)
    assert not torch.equal(latents[:, :2], known)


def test_adjustments_leave_known_latents_alone_and_reach_the_others(pipe):
    inputs = pipe.prepare(make_image(), sampling=VideoSampling(**STEPS), generator=seeded(0))
    known = torch.randn(1, 2, 4, 8, 8, generator=seeded(1))
    inputs = replace(inputs, adjust=lambda x_0, sigma: torch.zeros_like(x_0))
    latents = pipe.denoise(hold(inputs, known))
    assert torch.equal(latents[:, :2], known) and not latents[:, 2:].any()


def test_videos_of_a_batch_are_those_of_their_images_alone(pipe):
    both = sample_long_video(pipe, [make_image(0), make_image(1)], 6, generator=[seeded(3), seeded(4)], **STEPS)
    alone = sample_long_video(pipe, make_image(1), 6, generator=[seeded(4)], **STEPS)
    assert both.pixels.shape == (2, 6, 3, 32, 32)
    torch.testing.assert_close(both.pixels[1:], alone.pixels, atol=1e-4, rtol=0)


def test_the_shared_frames_fade_from_one_segment_to_the_next():
    video, segment = torch.zeros(1, 5, 3, 1, 1), torch.ones(1, 5, 3, 1, 1)
    faded = join(video, segment, overlap=3, fade=True)[0, :, 0, 0, 0]
    torch.testing.assert_close(faded, torch.tensor([0, 0, 0.25, 0.5, 0.75, 1, 1]))
    kept = join(video, segment, overlap=1, fade=False)[0, :, 0, 0, 0]
    torch.testing.assert_close(kept, torch.tensor([0.0, 0, 0, 0, 0, 1, 1, 1, 1]))


@pytest.mark.parametrize(
    ("total", "overlap", "starts"),
    [(8, 2, (0,)), (9, 2, (0, 8)), (14, 2, (0, 8)), (15, 2, (0, 8, 14)), (22, 1, (0, 8, 15))],
)
def test_segments_begin_where_the_last_one_ends(total, overlap, starts):
    assert segment_starts(total, 8, overlap) == starts


def test_a_quarter_of_a_segment_is_shared_by_default():
    assert [count_overlap("overlap", None, frames) for frames in (2, 8, 14, 25)] == [1, 2, 3, 6]
    assert count_overlap("restart", None, 8) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"total_frames": 3}, "total_frames 3 is less than a segment of 4"),
        ({"total_frames": 8, "overlap_frames": 4}, "overlap_frames 4 is not allowed: pass 1 to 3"),
        ({"total_frames": 8, "way": "restart", "overlap_frames": 2}, "a restart hands on one frame"),
        ({"total_frames": 8, "way": "loop"}, "no method 'loop'"),
    ],
)
def test_frames_that_do_not_fit_are_refused(pipe, arguments, message):
    with pytest.raises(ValueError, match=message):
        sample_long_video(pipe, make_image(), **arguments)
