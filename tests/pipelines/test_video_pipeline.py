"""The open loop of Stable Video Diffusion, held against diffusers' own."""

import numpy as np
import pytest
import torch
from accelerate import cpu_offload
from diffusers import EDMDPMSolverMultistepScheduler
from PIL import Image

from pipelines.adjustments import hold_still, scale_motion, smooth_frames
from pipelines.pipeline_stable_video_diffusion import StableVideoDiffusionEDMPipeline
from tests.tiny_pipeline import quiet
from utils.latents import FRAMES_BESIDE

STEPS = {"num_inference_steps": 2, "fps": 8, "motion_bucket_id": 60, "noise_aug_strength": 0.05}


def make_image(seed=0, size=(32, 32)):
    values = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    return Image.fromarray(values)


def seeded(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.fixture
def stock(tiny_svd):
    return tiny_svd


@pytest.fixture
def pipe(stock):
    return quiet(StableVideoDiffusionEDMPipeline(**stock.components))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"max_guidance_scale": 1.0},
        {"min_guidance_scale": 2.0, "max_guidance_scale": 6.0},
        {"num_frames": 3, "decode_chunk_size": 2},
    ],
    ids=["plain", "no guidance", "guidance", "chunks"],
)
def test_without_adjustments_it_is_the_pipeline_of_diffusers(stock, pipe, changes):
    size = (48, 32)
    arguments = {**STEPS, **changes, "output_type": "np"}
    expected = stock(make_image(size=size), *size[::-1], generator=seeded(1)[0], **arguments).frames
    found = pipe(make_image(size=size), generator=seeded(1)[0], **arguments).frames
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_steps_of_second_order_are_those_of_the_multistep_scheduler_of_diffusers(stock, pipe):
    levels = {name: pipe.scheduler.config[name] for name in ("sigma_min", "sigma_max")}
    options = {"sigma_data": 1.0, "prediction_type": "v_prediction", "solver_order": 2, "euler_at_final": True}
    multistep = quiet(
        type(stock)(**stock.components | {"scheduler": EDMDPMSolverMultistepScheduler(**levels, **options)})
    )
    arguments = {**STEPS, "num_inference_steps": 5, "output_type": "np"}
    expected = multistep(make_image(), 32, 32, generator=seeded(1)[0], **arguments).frames
    found, euler = (pipe(make_image(), generator=seeded(1)[0], solver_order=n, **arguments).frames for n in (2, 1))
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert abs(euler - expected).max() > 0.01


def test_guidance_leads_away_from_the_negative_bucket(pipe):
    buckets = []
    pipe.unet.register_forward_pre_hook(lambda unet, args: buckets.append(args[3][:, 1].tolist()))
    for negative in ({}, {"negative_motion_bucket_id": 5}, {"max_guidance_scale": 1.0}):
        pipe(make_image(), output_type="latent", **STEPS, **negative)
    assert buckets == [[60, 60]] * 2 + [[5, 60]] * 2 + [[60]] * 2


def test_fresh_noise_of_a_video_does_not_depend_on_the_others_of_its_batch(pipe):
    def sample(images, seeds, **options):
        return pipe(images, generator=seeded(*seeds), output_type="latent", **STEPS, **options).frames

    both = sample([make_image(0), make_image(1)], (0, 1), eta=1)
    torch.testing.assert_close(both[1:], sample(make_image(1), [1], eta=1), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(both[1:], sample(make_image(1), [1]), atol=1e-2)


def test_the_motion_bucket_is_scaled_and_the_negative_one_is_not(pipe):
    buckets = []
    pipe.unet.register_forward_pre_hook(lambda unet, args: buckets.append(args[3][:, 1].tolist()))
    both, options = [make_image(0), make_image(1)], {"negative_motion_bucket_id": 5, "motion_bucket_scale": 1.5}
    pipe(both, output_type="latent", **STEPS | options | {"motion_bucket_id": (60, 200)})
    assert buckets == [[5, 5, 90, 255]] * 2


def test_guidance_acts_in_its_interval_and_without_its_parallel_part(pipe):
    def sample(**options):
        return pipe(make_image(), generator=seeded(1)[0], output_type="latent", **STEPS, **options).frames

    plain, none = sample(), sample(max_guidance_scale=1.0)
    assert not torch.allclose(plain, none, atol=1e-3)
    assert torch.equal(sample(guidance_max_sigma=100), plain)
    torch.testing.assert_close(sample(guidance_min_sigma=100), none, atol=1e-5, rtol=1e-5)
    for option in ({"guidance_max_sigma": 10}, {"guidance_parallel": 0}):
        found = sample(**option)
        assert not torch.allclose(found, plain, atol=1e-4) and not torch.allclose(found, none, atol=1e-4)


def test_outside_of_the_interval_no_row_is_unconditional(pipe):
    rows = []
    pipe.unet.register_forward_pre_hook(lambda unet, args: rows.append(len(args[0])))
    for interval in ({"guidance_max_sigma": 10}, {"guidance_min_sigma": 10}, {}):
        pipe(make_image(), output_type="latent", **STEPS, **interval)
    assert rows == [1, 2, 2, 1, 2, 2]


def test_a_batch_is_what_its_images_give_alone(pipe):
    both = pipe([make_image(0), make_image(1)], generator=seeded(5, 6), output_type="pt", **STEPS).frames
    for index, video in enumerate(both):
        alone = pipe(make_image(index), generator=seeded(5 + index), output_type="pt", **STEPS).frames[0]
        torch.testing.assert_close(video, alone, atol=1e-4, rtol=0)


def test_in_bfloat16_the_loop_stays_in_float32(pipe):
    latents = pipe.to(torch.bfloat16)(make_image(), generator=seeded(0), output_type="latent", **STEPS).frames
    assert latents.dtype == torch.float32 and latents.isfinite().all()


def test_the_largest_noise_level_of_the_released_model_does_not_overflow_in_float16(pipe):
    pipe.scheduler.register_to_config(sigma_max=700.0)
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
    exact = pipe(make_image(), generator=seeded(0), output_type="latent", **STEPS).frames
    for module in (pipe.vae, pipe.unet, pipe.image_encoder):
        module.half()
    half = pipe(make_image(), generator=seeded(0), output_type="latent", **STEPS).frames
    assert torch.nn.functional.cosine_similarity(half.flatten(), exact.flatten(), dim=0) > 0.99


def test_chunks_are_decoded_with_the_frames_beside_them(pipe):
    latents = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    pipe.vae.register_to_config(**{FRAMES_BESIDE: 1})
    decoded = pipe.decode(latents, 2)
    expected = [
        pipe.decode_latents(latents[:1, seen], len(seen), len(seen))[0, :, 1:-1] for seen in ([0, 0, 1, 2], [1, 2, 2])
    ]
    assert decoded.shape == (2, 3, 3, 32, 32)
    torch.testing.assert_close(decoded[0], torch.cat(expected, 1).transpose(0, 1))


def test_it_loads_what_diffusers_saved(stock, pipe, tmp_path):
    stock.save_pretrained(tmp_path)
    loaded = quiet(StableVideoDiffusionEDMPipeline.from_pretrained(tmp_path))
    arguments = {**STEPS, "output_type": "latent"}
    expected = pipe(make_image(), generator=seeded(0), **arguments).frames
    assert torch.equal(loaded(make_image(), generator=seeded(0), **arguments).frames, expected)


def whole(pipe):
    pipe.enable_model_cpu_offload(device="cpu")


def grouped(pipe):
    pipe.enable_group_offload(onload_device=torch.device("cpu"), offload_type="leaf_level")


def sequential(pipe):
    for module in (pipe.vae, pipe.unet, pipe.image_encoder):
        cpu_offload(module, torch.device("cpu"))


@pytest.mark.parametrize("offload", [whole, grouped, sequential])
def test_offloading_changes_nothing(pipe, offload):
    arguments = {**STEPS, "output_type": "pt"}
    expected = pipe(make_image(), generator=seeded(0), **arguments).frames
    offload(pipe)
    torch.testing.assert_close(pipe(make_image(), generator=seeded(0), **arguments).frames, expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": make_image(size=(33, 32))}, "33x32 pixels: resize it to multiples of 8"),
        ({"image": [make_image(), make_image(size=(40, 32))]}, "images of one call have one size"),
        ({"num_inference_steps": 0}, "num_inference_steps 0 is not allowed"),
        ({"num_frames": 0}, "num_frames 0 is not allowed"),
        ({"decode_chunk_size": 0}, "decode_chunk_size 0 is not allowed"),
        ({"fps": -1}, "fps -1 is not allowed"),
        ({"temporal_smoothing": 1.5}, "temporal_smoothing 1.5 is not allowed: pass a finite number from 0 to 1"),
        ({"motion_scale": torch.nan}, "motion_scale nan is not allowed"),
        ({"noise_aug_strength": torch.nan}, "noise_aug_strength nan is not allowed"),
        ({"max_guidance_scale": torch.inf}, "max_guidance_scale inf is not allowed"),
        ({"motion_bucket_id": 256}, "motion_bucket_id 256 is not allowed"),
        ({"motion_bucket_id": (60, 70)}, "motion_bucket_id: 2 values do not go with a batch of 1"),
        ({"negative_motion_bucket_id": -1}, "negative_motion_bucket_id -1 is not allowed"),
        ({"latents": torch.full((1, 4, 4, 8, 8), torch.nan)}, "noise has values that are not finite"),
        ({"output_type": "jpg"}, "output_type .jpg. is not allowed"),
        ({"motion_scale": -1}, "motion_scale -1 is not allowed"),
    ],
)
def test_bad_input_is_one_sentence(pipe, changes, message):
    with pytest.raises(ValueError, match=message):
        pipe(**{"image": make_image(), **STEPS, **changes})


def test_a_scheduler_of_another_prediction_is_refused(pipe):
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, prediction_type="epsilon")
    with pytest.raises(ValueError, match="epsilon"):
        pipe(make_image(), **STEPS)


def test_smoothing_scales_the_fastest_flicker_and_keeps_what_stands_still():
    frames = torch.arange(9)
    flicker, still = (-1.0) ** frames, torch.full((9,), 3.0)
    x_0 = (still + flicker)[None, :, None, None, None]
    smooth = smooth_frames(x_0, 0.75)[0, :, 0, 0, 0]
    assert smooth[0] == x_0[0, 0]
    torch.testing.assert_close(smooth[1:-1], (still + 0.25 * flicker)[1:-1])


def test_smoothing_scales_a_period_as_its_formula_says():
    frames = torch.arange(13)
    wave = torch.sin(2 * torch.pi * frames / 6)[None, :, None, None, None]
    factor = 1 - 0.5 * torch.sin(torch.tensor(torch.pi / 6)) ** 2
    torch.testing.assert_close(smooth_frames(wave, 0.5)[:, 1:-1], factor * wave[:, 1:-1])


@pytest.mark.parametrize("num_frames", [1, 2])
def test_few_frames_can_be_smoothed(num_frames):
    x_0 = torch.ones(1, num_frames, 1, 1, 1)
    torch.testing.assert_close(smooth_frames(x_0, 1.0), x_0)


def test_motion_is_scaled_at_high_noise_and_left_at_low():
    x_0 = torch.randn(2, 4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    moved = x_0 - x_0[:, :1]
    torch.testing.assert_close(
        scale_motion(x_0, torch.tensor(1e3), 0.5) - x_0[:, :1], 0.5 * moved, rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(scale_motion(x_0, torch.tensor(1e-3), 0.5), x_0, rtol=1e-4, atol=1e-5)


def test_what_stands_still_is_held_and_what_moves_and_its_neighbours_are_not():
    x_0 = 0.05 * torch.randn(1, 4, 4, 8, 8, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    x_0[:, 2, 0, 1, 1] += 3.0  # moves, in one frame
    held = hold_still(x_0, 0.25)
    torch.testing.assert_close(held[..., :3, :3], x_0[..., :3, :3])
    assert torch.equal(held[..., 3:, :], x_0[:, :1, :, 3:].expand(1, 4, 4, 5, 8))


@pytest.mark.parametrize(("distance", "kept"), [(0.19, 0.0), (0.3, 0.5), (0.41, 1.0)])
def test_changes_come_back_from_the_threshold_to_twice_of_it(distance, kept):
    x_0 = torch.zeros(1, 3, 4, 2, 2)
    x_0[:, 1:] = distance / 2  # in each of 4 channels
    torch.testing.assert_close(hold_still(x_0, 0.2), kept * x_0)


def test_a_threshold_holds_at_the_last_steps_alone(pipe):
    options = {"generator": seeded(0), "output_type": "latent", **STEPS}
    free = pipe(make_image(), **options).frames
    everything = pipe(make_image(), **options | {"generator": seeded(0)}, still_threshold=1e9).frames
    torch.testing.assert_close(everything, free[:, :1].expand_as(free))
    assert (free[:, 1:] - free[:, :1]).abs().max() > 0.1


def test_frames_move_away_from_the_first_the_more_the_larger_the_motion_scale(pipe):
    ways = []
    for scale in (0.0, 0.5, 1.0, 1.5, 2.0):
        latents = pipe(make_image(), generator=seeded(0), output_type="latent", motion_scale=scale, **STEPS).frames
        ways.append((latents[:, 1:] - latents[:, :1]).square().mean().item())
    assert ways == sorted(ways) and ways[0] < 1e-9
