"""Any scheduler of diffusers samples each side as it would sample it alone."""

import diffusers
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from pipelines.image_sides import start_side
from tests.tiny_pipeline import quiet
from utils.latents import LatentScale

SCHEDULERS = (
    "DDIMScheduler",
    "DDPMScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
    "DEISMultistepScheduler",
)
STOCHASTIC = ("DDPMScheduler", "EulerAncestralDiscreteScheduler")
ENDS_NOISY = ("PNDMScheduler", "DEISMultistepScheduler")  # at the noise of the first training step

# Inside diffusers' schedulers, at NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")


def use(pipe, name, prediction_type="epsilon", **config):
    config = {"skip_prk_steps": True} | config if name == "PNDMScheduler" else config
    base = pipe.scheduler.config
    pipe.scheduler = getattr(diffusers, name).from_config(base, prediction_type=prediction_type, **config)


def sample(pipe, steps=6, **kwargs):
    generator = torch.Generator().manual_seed(0)
    return pipe("a cube", num_inference_steps=steps, generator=generator, output_type="pt", **kwargs)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_with_joint_attention_off_images_are_those_of_stable_diffusion(pipe, folders, name, prediction_type):
    plain = quiet(StableDiffusionPipeline.from_pretrained(folders.model))
    for one in (pipe, plain):
        use(one, name, prediction_type)
    images = sample(pipe, adapters={"depth": 0.0}).images
    torch.testing.assert_close(images, sample(plain).images, atol=2e-5, rtol=0)


@pytest.mark.parametrize("strength", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("name", [name for name in SCHEDULERS if name not in STOCHASTIC])
def test_coarse_control_leads_back_to_the_known_image_when_the_noise_is_predicted_exactly(name, strength):
    """From every level and for every order of the scheduler: no step is missing and none is taken twice."""
    config = {"PNDMScheduler": {"skip_prk_steps": True}, "DDIMScheduler": {"clip_sample": False}}.get(name, {})
    scheduler = getattr(diffusers, name)(**config)
    scheduler.set_timesteps(10)
    clean, noise = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    side = start_side("depth", LatentScale(), scheduler, noise, strength, clean)
    for i in range(len(scheduler.timesteps)):
        side.model_input(i)
        side = side.step(noise, i)
    torch.testing.assert_close(side.result(), clean, atol=0.05 if name in ENDS_NOISY else 1e-4, rtol=0)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_serves_every_mode(pipe, name):
    use(pipe, name)
    image, mask = torch.rand(3, 32, 32) * 2 - 1, torch.zeros(32, 32)
    mask[:16] = 1
    for known in (
        {"image": image},
        {"condition": image},
        {"condition": image, "condition_strength": 0.5},
        {"image": image, "strength": 0.4, "condition": image, "condition_strength": 0.8},
        {"image": image, "mask_image": mask},
    ):
        out = sample(pipe, steps=4, **known)
        assert out.images.isfinite().all()
        assert np.isfinite(out.values["depth"]).all()


def test_pndm_with_runge_kutta_steps_refuses_coarse_control(pipe):
    use(pipe, "PNDMScheduler", skip_prk_steps=False)
    with pytest.raises(ValueError, match="skip_prk_steps=True"):
        sample(pipe, steps=8, image=torch.zeros(3, 32, 32), strength=0.5)


def test_a_scheduler_of_another_family_is_refused(pipe):
    pipe.scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    with pytest.raises(ValueError, match="FlowMatchEulerDiscreteScheduler cannot sample"):
        sample(pipe)


def test_the_scheduler_of_the_pipeline_keeps_its_class_and_configuration(pipe):
    use(pipe, "UniPCMultistepScheduler")
    before = dict(pipe.scheduler.config)
    sample(pipe)
    assert dict(pipe.scheduler.config) == before
    assert pipe.scheduler.step_index is None
