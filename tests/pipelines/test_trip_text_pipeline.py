"""Text and a first frame to video: held against DDIM of diffusers, and what a call reads and keeps."""

import json

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, TextToVideoSDPipeline

from models.trip_text import TripTextUNet
from pipelines.pipeline_trip_text import TextToVideoTripPipeline
from pipelines.trip_bases import trip_pipeline
from tests.tiny_pipeline import quiet
from tests.tiny_text_video import ddim, tiny_text_video
from utils.latents import encode_mode
from utils.weights.model_kinds import check_pipeline, describe

F, SIDE = 3, 32


@pytest.fixture
def make(tmp_path, trained_fusion):
    """A pipeline of a form, whose fusion has learned something."""

    def of(form="fusion", scheduler=None):
        return tiny_text_video(tmp_path / "words", scheduler, trained_fusion(form))

    return of


def sample(pipe, image, prompt="a cube", first_seed=0, **options):
    generator = [torch.Generator().manual_seed(first_seed + k) for k in range(len(image))]
    options = {"num_frames": F, "num_inference_steps": 3, "output_type": "latent", "guidance_scale": 2.0, **options}
    return pipe(image, prompt, generator=generator, **options).frames


@pytest.mark.parametrize("form", ["front", "fusion"])
def test_its_steps_are_those_of_ddim(make, image, form):
    """On noise predictions that are guided as diffusers guides them."""
    pipe = make(form, ddim())
    noise = torch.randn(1, F, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    found = sample(pipe, image[:1], latents=noise)
    scheduler, model = ddim(), TripTextUNet(pipe.unet, pipe.fusion)
    first = encode_mode(pipe.vae, image[:1])[:, None] * pipe.vae.config.scaling_factor
    scheduler.set_timesteps(3)
    z_t = noise
    for t in scheduler.timesteps:
        alpha_bar = scheduler.alphas_cumprod[t][None]
        plain, told = (model(z_t, t[None], alpha_bar, pipe.embed([text]), first) for text in ("", "a cube"))
        z_t = scheduler.step(plain + 2.0 * (told - plain), t, z_t).prev_sample
    torch.testing.assert_close(found, z_t, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("form", ["linear", "fusion"])
@pytest.mark.parametrize("order", [1, 2])
def test_the_first_frame_is_exactly_the_image(make, image, form, order):
    pipe = make(form)
    latents = sample(pipe, image, solver_order=order)
    first = encode_mode(pipe.vae, image) * pipe.vae.config.scaling_factor
    assert torch.equal(latents[:, 0], first)


@pytest.mark.parametrize("form", ["front", "end"])
def test_without_the_prior_nothing_is_held(make, image, form):
    pipe = make(form)
    first = encode_mode(pipe.vae, image) * pipe.vae.config.scaling_factor
    assert (sample(pipe, image)[:, 0] - first).abs().max() > 1e-2


def test_prompt_negative_prompt_and_image_are_read(make, image):
    pipe = make()
    plain = sample(pipe, image[:1])
    for changed in ({"prompt": "zzz"}, {"negative_prompt": "a cube"}, {"image": image[1:]}, {"guidance_scale": 1.0}):
        assert (sample(pipe, **{"image": image[:1], **changed}) - plain)[:, 1:].abs().max() > 1e-3


def test_each_video_of_a_batch_is_the_one_that_its_image_and_prompt_make_alone(make, image):
    together = sample(make(), image, ["a cube", "zzz"])
    alone = sample(make(), image[1:], ["zzz"], first_seed=1)
    torch.testing.assert_close(together[1:], alone, atol=1e-3, rtol=1e-3)


def test_frames_come_in_all_forms_and_chunks_change_nothing(make, image):
    pipe = make()
    pixels = sample(pipe, image, output_type="pt")
    assert pixels.shape == (2, F, 3, SIDE, SIDE) and 0 <= pixels.min() < pixels.max() <= 1
    torch.testing.assert_close(sample(pipe, image, output_type="pt", decode_chunk_size=1), pixels, atol=1e-5, rtol=0)
    assert sample(pipe, image, output_type="pil")[1][0].size == (SIDE, SIDE)


def test_what_is_saved_loads_and_samples_the_same(make, image, tmp_path):
    pipe = make()
    pipe.save_pretrained(tmp_path / "saved")
    loaded = quiet(TextToVideoTripPipeline.from_pretrained(tmp_path / "saved"))
    torch.testing.assert_close(sample(loaded, image), sample(pipe, image), atol=1e-5, rtol=1e-5)


def test_a_base_of_diffusers_is_known_and_without_a_fusion_refused(make, image, tmp_path, svd_base, folders):
    pipe = make()
    pipe.register_modules(fusion=None)
    pipe.save_pretrained(tmp_path / "base")
    index = json.loads((tmp_path / "base/model_index.json").read_text())
    del index["fusion"]
    index["_class_name"] = TextToVideoSDPipeline.__name__
    (tmp_path / "base/model_index.json").write_text(json.dumps(index))
    assert trip_pipeline(tmp_path / "base") is TextToVideoTripPipeline
    assert trip_pipeline(svd_base) is not TextToVideoTripPipeline
    check_pipeline(tmp_path / "base", TextToVideoTripPipeline)
    assert describe(tmp_path / "base") == "a text to video base (TextToVideoSDPipeline)"
    with pytest.raises(ValueError, match="is a Stable Diffusion base .*; a text to video base is needed"):
        check_pipeline(folders.model, TextToVideoTripPipeline)
    with pytest.raises(ValueError, match="no TRIP fusion: train one with train_models/train_trip.py"):
        sample(TextToVideoTripPipeline.from_pretrained(tmp_path / "base"), image)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": ["a", "b", "c"]}, "3 prompts do not go with 2 images: pass one for each, or one"),
        ({"num_frames": 1}, "num_frames"),
        ({"num_inference_steps": 2000}, "num_inference_steps"),
        ({"solver_order": 3}, "solver_order=3 is unknown"),
        ({"latents": torch.zeros(1, 3, 4, 8, 8)}, "The noise is .1, 3, 4, 8, 8. and has to be .2, 3, 4, 8, 8."),
        ({"decode_chunk_size": 0, "output_type": "pt"}, "decode_chunk_size"),
        ({"output_type": "gif"}, "output_type"),
    ],
)
def test_what_cannot_work_is_refused(make, image, options, message):
    with pytest.raises(ValueError, match=message):
        sample(make(), image, **options)


def test_an_image_of_another_size_is_refused(make, image):
    with pytest.raises(ValueError, match="The image has 30x32 pixels: resize it to multiples of 8"):
        sample(make(), image[..., :30])


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (DDPMScheduler(prediction_type="v_prediction"), "needs a base that predicts epsilon"),
        (DDIMScheduler(rescale_betas_zero_snr=True), "ends in pure noise"),
    ],
)
def test_a_schedule_that_epsilon_does_not_serve_is_refused(make, image, scheduler, message):
    with pytest.raises(ValueError, match=message):
        sample(make(scheduler=scheduler), image)
