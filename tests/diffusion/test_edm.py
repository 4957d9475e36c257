"""The shared object of training and sampling, held against diffusers' scheduler and pipeline."""

import numpy as np
import pytest
import torch
from diffusers import EDMDPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler, EulerDiscreteScheduler
from PIL import Image

from utils.diffusion.edm import EDM, Denoiser
from utils.diffusion.guidance import guidance_over_frames
from utils.diffusion.solver import Solver, euler_step
from utils.diffusion.svd_condition import Condition, ConditionEncoder, draw_noise_aug_strengths, time_ids

SHAPE = (3, 4, 4, 8, 8)


@pytest.fixture
def latents():
    generator = torch.Generator().manual_seed(0)
    x_0, noise, v = torch.randn(3, *SHAPE, generator=generator, dtype=torch.float64)
    return x_0, noise, v, torch.tensor([0.01, 1.0, 80.0], dtype=torch.float64)


def euler_scheduler(**changes):
    options = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "prediction_type": "v_prediction",
        "use_karras_sigmas": True,
        "sigma_min": 0.002,
        "sigma_max": 700.0,
        "timestep_type": "continuous",
        "timestep_spacing": "leading",
        "interpolation_type": "linear",
    }
    return EulerDiscreteScheduler(**{**options, **changes})


def test_weighed_error_of_x_0_is_the_plain_error_of_v(latents):
    x_0, noise, v, sigma = latents
    edm = EDM()
    estimate = edm.denoised(edm.add_noise(x_0, noise, sigma), v, sigma)
    of_x_0 = edm.loss_weight(sigma) * (estimate - x_0).square().flatten(1).mean(1)
    of_v = (v - edm.velocity(x_0, noise, sigma)).square().flatten(1).mean(1)
    torch.testing.assert_close(of_x_0, of_v, rtol=1e-9, atol=0)


def test_the_loss_of_the_denoiser_is_the_weighed_error_of_its_estimate(latents):
    x_0, noise, v, _ = (values.float() for values in latents)
    sigma = torch.tensor([0.5, 1.0, 5.0])
    condition = Condition(torch.zeros(3, 1, 2), torch.zeros(SHAPE), torch.zeros(3, 3))
    denoiser = Denoiser(lambda *_, **__: (v,))
    loss, estimate = denoiser.loss_and_estimate(x_0, noise, sigma, condition)
    expected = denoiser.edm.loss_weight(sigma) * (estimate - x_0).square().flatten(1).mean(1)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=0)
    perfect = Denoiser(lambda *_, **__: (denoiser.edm.velocity(x_0, noise, sigma),))
    loss, estimate = perfect.loss_and_estimate(x_0, noise, sigma, condition)
    assert loss.max() < 1e-9
    torch.testing.assert_close(estimate, x_0, rtol=1e-4, atol=1e-5)


def test_the_true_velocity_gives_back_the_clean_latents(latents):
    x_0, noise, _, sigma = latents
    edm = EDM()
    x_t = edm.add_noise(x_0, noise, sigma)
    torch.testing.assert_close(edm.denoised(x_t, edm.velocity(x_0, noise, sigma), sigma), x_0)


def test_the_estimate_agrees_with_the_preconditioning_of_the_paper(latents):
    x_0, noise, v, sigma = latents
    x_t = EDM().add_noise(x_0, noise, sigma)
    s = sigma[:, None, None, None, None]
    c_skip, c_out = 1 / (s**2 + 1), -s / (s**2 + 1).sqrt()
    torch.testing.assert_close(EDM().denoised(x_t, v, sigma), c_skip * x_t + c_out * v)


def test_steps_agree_with_the_euler_scheduler_of_diffusers():
    scheduler = euler_scheduler()
    scheduler.set_timesteps(7)
    edm = EDM()
    generator = torch.Generator().manual_seed(0)
    theirs = ours = torch.randn(1, 4, 4, 8, 8, generator=generator) * scheduler.sigmas[0]
    for index, t in enumerate(scheduler.timesteps):
        sigma = scheduler.sigmas[index][None]
        torch.testing.assert_close(edm.timestep(sigma)[0], t)
        torch.testing.assert_close(edm.scale_input(ours, sigma), scheduler.scale_model_input(theirs, t))
        v = torch.randn(theirs.shape, generator=generator)
        ours = euler_step(ours, edm.denoised(ours, v, sigma), sigma, scheduler.sigmas[index + 1][None])
        theirs = scheduler.step(v, t, theirs).prev_sample
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def sampled(scheduler, solver, **options):
    """The latents after all steps of both, with the same random predictions; options: of the scheduler's step."""
    generator = torch.Generator().manual_seed(0)
    theirs = ours = torch.randn(1, 4, 4, 8, 8, generator=generator) * scheduler.sigmas[0]
    for index, t in enumerate(scheduler.timesteps):
        sigma, next_sigma = scheduler.sigmas[index : index + 2]
        v = torch.randn(theirs.shape, generator=generator)
        ours, solver = solver.step(ours, EDM().denoised(ours, v, sigma[None]), sigma[None], next_sigma)
        theirs = scheduler.step(v, t, theirs, **options).prev_sample
    return ours, theirs


def test_two_estimates_make_the_steps_of_the_multistep_scheduler_of_diffusers():
    options = {"sigma_data": 1.0, "sigma_max": 80.0, "prediction_type": "v_prediction"}
    scheduler = EDMDPMSolverMultistepScheduler(**options, solver_order=2, euler_at_final=True)
    scheduler.set_timesteps(7)
    ours, theirs = sampled(scheduler, Solver(2))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_one_estimate_makes_the_steps_of_the_euler_scheduler():
    scheduler = euler_scheduler()
    scheduler.set_timesteps(7)
    ours, theirs = sampled(scheduler, Solver())
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_all_noise_that_is_fresh_makes_the_steps_of_the_ancestral_scheduler():
    scheduler = EulerAncestralDiscreteScheduler(prediction_type="v_prediction")
    scheduler.set_timesteps(7)
    one, other = (torch.Generator().manual_seed(1) for _ in range(2))
    ours, theirs = sampled(scheduler, Solver(eta=1.0, generator=one), generator=other)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("eta", [0.25, 0.5])
def test_fresh_noise_keeps_the_level_and_replaces_its_share_of_the_old(eta):
    sigma, next_sigma = torch.tensor(10.0), torch.tensor(6.0)
    noise = torch.randn(1, 8, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    solver = Solver(eta=eta, generator=torch.Generator().manual_seed(1))
    x_t, _ = solver.step(10 * noise, torch.zeros_like(noise), sigma, next_sigma)
    kept = (1 - eta**2 * (1 - 0.6**2)) ** 0.5
    assert x_t.std() == pytest.approx(6, rel=0.01) and (x_t * noise).mean() == pytest.approx(6 * kept, rel=0.02)


@pytest.mark.parametrize(
    ("options", "words"), [({"order": 3}, "solver_order=3"), ({"order": 2, "eta": 0.5}, "eta=0.5")]
)
def test_a_solver_that_there_is_not_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        Solver(**options)


def test_a_given_side_enters_unchanged_under_the_smallest_level():
    edm = EDM(sigma_min=0.002)
    x, zero = torch.randn(2, 4, 4, 8, 8), torch.zeros(2)
    assert torch.equal(edm.scale_input(x, zero), x)
    assert torch.equal(edm.timestep(zero), edm.timestep(torch.full((2,), 0.002)))
    assert torch.equal(edm.denoised(x, torch.randn_like(x), zero), x)


def test_noise_levels_have_the_stated_logarithm():
    draws = EDM(1.0, 1.2).draw_sigmas(20_000, torch.Generator().manual_seed(0)).log()
    assert draws.mean() == pytest.approx(1.0, abs=0.03)
    assert draws.std() == pytest.approx(1.2, abs=0.03)


def test_noise_of_the_image_has_the_stated_logarithm():
    torch.manual_seed(0)
    strengths = draw_noise_aug_strengths(20_000).log()
    assert strengths.mean() == pytest.approx(-3, abs=0.02)
    assert strengths.std() == pytest.approx(0.5, abs=0.02)


def test_ids_are_ordered_as_the_pipeline_orders_them(tiny_svd):
    theirs = tiny_svd._get_add_time_ids(7 - 1, 127, 0.02, torch.float32, 2, 1, False)
    assert torch.equal(time_ids(2, 7, 127, 0.02), theirs)
    assert time_ids(2, torch.tensor([7, 8]), 127, torch.tensor([0.1, 0.2]))[1].tolist() == pytest.approx([7, 127, 0.2])


def test_condition_is_that_of_the_pipeline(tiny_svd):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    pixels = tiny_svd.video_processor.preprocess(image, height=64, width=64)
    noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(1))
    encoder = ConditionEncoder(tiny_svd.vae, tiny_svd.image_encoder, tiny_svd.feature_extractor)
    with torch.no_grad():
        condition = encoder(pixels, 4, 7, 127, 0.05, noise)
        latents = tiny_svd._encode_vae_image(pixels + 0.05 * noise, "cpu", 1, False)
        embeddings = tiny_svd._encode_image(image, "cpu", 1, True)
    torch.testing.assert_close(condition.image_embeddings, embeddings[1:], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(condition.image_latents, latents[:, None].repeat(1, 4, 1, 1, 1))
    assert condition.image_embeddings.ndim == 3


def test_frames_of_their_own_stand_beside_each_with_one_noise(tiny_svd):
    encoder = ConditionEncoder(tiny_svd.vae, tiny_svd.image_encoder, tiny_svd.feature_extractor)
    image, noise = torch.rand(2, 3, 32, 32) * 2 - 1, torch.randn(2, 3, 32, 32)
    frames = torch.rand(2, 3, 3, 32, 32) * 2 - 1
    framed = encoder(image, 3, 8, 100, 0.1, noise, frames)
    plain = encoder(image, 3, 8, 100, 0.1, noise)
    assert torch.equal(framed.image_embeddings, plain.image_embeddings) and torch.equal(framed.time_ids, plain.time_ids)
    for k in range(3):
        alone = encoder(frames[:, k], 1, 8, 100, 0.1, noise).image_latents
        torch.testing.assert_close(framed.image_latents[:, k : k + 1], alone, atol=1e-5, rtol=1e-5)
    same = encoder(image, 3, 8, 100, 0.1, noise, image[:, None].expand(-1, 3, -1, -1, -1))
    torch.testing.assert_close(same.image_latents, plain.image_latents, atol=1e-5, rtol=1e-5)


def test_dropping_zeroes_image_and_embedding_but_keeps_the_ids(tiny_svd):
    encoder = ConditionEncoder(tiny_svd.vae, tiny_svd.image_encoder, tiny_svd.feature_extractor)
    condition = encoder(torch.randn(2, 3, 64, 64).clamp(-1, 1), 4, 7, 127, 0.02)
    dropped = condition.drop(torch.tensor([True, False]))
    assert not dropped.image_embeddings[0].any() and not dropped.image_latents[0].any()
    assert torch.equal(dropped.image_embeddings[1], condition.image_embeddings[1])
    assert torch.equal(dropped.time_ids, condition.time_ids)


def test_dropped_samples_may_have_another_bucket(tiny_svd):
    encoder = ConditionEncoder(tiny_svd.vae, tiny_svd.image_encoder, tiny_svd.feature_extractor)
    condition = encoder(torch.randn(2, 3, 64, 64).clamp(-1, 1), 4, 7, torch.tensor([127, 90]), 0.02)
    ids = condition.time_ids.clone()
    dropped = condition.drop(torch.tensor([False, True]), motion_bucket_id=5)
    assert dropped.time_ids[:, 1].tolist() == [127, 5]
    assert condition.with_unconditional(0).time_ids[:, 1].tolist() == [0, 0, 127, 90]
    assert torch.equal(dropped.time_ids[:, ::2], ids[:, ::2]) and torch.equal(condition.time_ids, ids)


def test_sampling_with_the_denoiser_is_sampling_with_the_pipeline(tiny_svd):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    start = torch.randn(1, 4, 4, 16, 16, generator=torch.Generator().manual_seed(3))
    settings = {"height": 64, "width": 64, "num_frames": 4, "num_inference_steps": 3, "noise_aug_strength": 0.0}
    theirs = tiny_svd(image, latents=start, output_type="latent", **settings).frames

    encoder = ConditionEncoder(tiny_svd.vae, tiny_svd.image_encoder, tiny_svd.feature_extractor)
    pixels = tiny_svd.video_processor.preprocess(image, height=64, width=64)
    denoiser, scheduler = Denoiser(tiny_svd.unet), tiny_svd.scheduler
    scheduler.set_timesteps(3)
    with torch.no_grad():
        condition = encoder(pixels, 4, 7, 127, 0.0).with_unconditional()
        x_t = start * scheduler.init_noise_sigma
        for sigma, next_sigma in zip(scheduler.sigmas[:-1], scheduler.sigmas[1:], strict=True):
            free, conditional = denoiser.predict(torch.cat([x_t, x_t]), sigma.expand(2), condition).chunk(2)
            v = free + guidance_over_frames(4) * (conditional - free)
            x_0 = denoiser.edm.denoised(x_t, v, sigma[None])
            x_t = euler_step(x_t, x_0, sigma[None], next_sigma[None])
    torch.testing.assert_close(x_t, theirs, rtol=1e-3, atol=1e-3)
