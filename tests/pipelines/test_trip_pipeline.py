"""Stable Video Diffusion with TRIP, held against the same without."""

import pytest
import torch

from models.trip import FORMS
from pipelines.pipeline_stable_video_diffusion import StableVideoDiffusionEDMPipeline
from pipelines.pipeline_trip import StableVideoDiffusionTripPipeline
from tests.tiny_pipeline import quiet
from utils.latents import encode_mode
from utils.weights.model_kinds import check_pipeline

F, SIDE = 3, 32


@pytest.fixture
def make(tiny_svd, trained_fusion):
    """A pipeline of a form, whose fusion has learned something."""

    def of(form="fusion"):
        return quiet(StableVideoDiffusionTripPipeline(**tiny_svd.components, fusion=trained_fusion(form)))

    return of


def sample(pipe, image, first_seed=0, **options):
    generator = [torch.Generator().manual_seed(first_seed + k) for k in range(len(image))]
    options = {"num_frames": F, "num_inference_steps": 2, "output_type": "latent", **options}
    return pipe(image, generator=generator, **options).frames


@pytest.mark.parametrize("form", ["linear", "fusion"])
@pytest.mark.parametrize("order", [1, 2])
def test_the_first_frame_is_exactly_the_image_at_every_step(make, image, form, order, monkeypatch):
    pipe, seen = make(form), []
    predict = pipe.predict

    def keep(denoiser, sides, rows, condition, i):
        seen.append((sides[0].latents, sides[0].sigmas[i]))
        return predict(denoiser, sides, rows, condition, i)

    monkeypatch.setattr(pipe, "predict", keep)
    latents = sample(pipe, image, num_inference_steps=4, solver_order=order, temporal_smoothing=0.5, motion_scale=1.3)
    first = encode_mode(pipe.vae, image) * pipe.vae.config.scaling_factor
    torch.testing.assert_close(latents[:, 0], first, atol=1e-6, rtol=0)
    noises = [(x_t[:, 0] - first) / sigma for x_t, sigma in seen]
    for noise in noises[1:]:  # on the way it has the noise that it started with, at the step's level
        torch.testing.assert_close(noise, noises[0], atol=2e-2, rtol=1e-3)


@pytest.mark.parametrize("form", ["end", "front", "residual"])
def test_without_the_prior_nothing_is_held(make, image, form):
    pipe = make(form)
    first = encode_mode(pipe.vae, image) * pipe.vae.config.scaling_factor
    assert (sample(pipe, image)[:, 0] - first).abs().max() > 1e-2


def test_the_form_of_channels_is_stable_video_diffusion(make, tiny_svd, image):
    stock = quiet(StableVideoDiffusionEDMPipeline(**tiny_svd.components))
    assert torch.equal(sample(make("channels"), image), sample(stock, image))


def test_forms_differ(make, image):
    found = [sample(make(form), image[:1]) for form in FORMS]
    assert all((a - b).abs().max() > 1e-3 for i, a in enumerate(found) for b in found[:i])


def test_each_video_of_a_batch_is_the_one_that_its_image_makes_alone(make, image):
    together = sample(make(), image)
    alone = sample(make(), image[1:], first_seed=1)
    torch.testing.assert_close(together[1:], alone, atol=1e-3, rtol=1e-3)


def test_the_base_is_left_as_it_was(make, tiny_svd, image):
    stock = quiet(StableVideoDiffusionEDMPipeline(**tiny_svd.components))
    expected = sample(stock, image)
    sample(make(), image)
    assert torch.equal(sample(stock, image), expected)


def test_what_is_saved_loads_and_samples_the_same(make, image, tmp_path):
    pipe = make()
    pipe.save_pretrained(tmp_path)
    loaded = quiet(StableVideoDiffusionTripPipeline.from_pretrained(tmp_path))
    assert loaded.fusion.config.form == "fusion"
    torch.testing.assert_close(sample(loaded, image), sample(pipe, image), atol=1e-5, rtol=1e-5)
    check_pipeline(tmp_path, StableVideoDiffusionTripPipeline)
    with pytest.raises(ValueError, match="is a Stable Video Diffusion base .* is needed"):
        check_pipeline(tmp_path, StableVideoDiffusionEDMPipeline)


def test_in_bfloat16_the_latents_stay_float32(make, image):
    pipe = make()
    pipe.to(torch.bfloat16)
    latents = sample(pipe, image)
    assert latents.dtype == torch.float32 and latents.isfinite().all()


def test_offloading_changes_nothing(make, image):
    expected = sample(make(), image)
    pipe = make()
    pipe.enable_model_cpu_offload(device="cpu")
    torch.testing.assert_close(sample(pipe, image), expected)


def test_a_base_without_a_fusion_is_refused(svd_base, image):
    pipe = StableVideoDiffusionTripPipeline.from_pretrained(svd_base)
    assert pipe.fusion is None
    with pytest.raises(ValueError, match="no TRIP fusion: train one with train_models/train_trip.py"):
        sample(pipe, image)
