"""A given side that reads no other is run once, and the result is that of running it at every step."""

import contextlib

import diffusers
import numpy as np
import pytest
import torch

import patch


def sample(pipe, **kwargs):
    defaults = {"num_inference_steps": 3, "guidance_scale": 3.0, "output_type": "pt"}
    return pipe("a cube", **defaults | kwargs, generator=torch.Generator().manual_seed(0))


def disparity(seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (32, 32)).astype(np.float32)


def make_image(seed=0):
    return torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, (1, 3, 32, 32)).astype(np.float32))


def run_everything(monkeypatch):
    """Every side runs at every step."""
    monkeypatch.setattr(
        "pipelines.pipeline_stable_diffusion_joint.run_constant", lambda unet, sides, rows, joint, run: rows
    )


@contextlib.contextmanager
def counted(pipe):
    """Rows of each call of the network."""
    rows = []
    handle = pipe.unet.register_forward_pre_hook(lambda net, args: rows.append(len(args[0])))
    yield rows
    handle.remove()


@pytest.fixture
def two(bare, folders):
    for name in ("depth", "edge"):
        bare.load_adapter_pair(folders.adapters, name)
    return bare


CALLS = {
    "depth to image": {"condition": {"depth": disparity()}, "adapters": "depth"},
    "image to depth": {"image": make_image(), "adapters": "depth"},
    "without guidance": {"image": make_image(), "adapters": "depth", "guidance_scale": 1.0},
    "condition guidance": {"condition": {"depth": disparity()}, "adapters": "depth", "condition_guidance_scale": 1.5},
    "two given conditions": {"condition": {"depth": disparity(1), "edge": disparity(2)}},
    "one given, one sampled": {"condition": {"depth": disparity(1)}},
    "image and one condition given": {"condition": {"depth": disparity(1)}, "image": make_image()},
    "several images": {"condition": {"depth": disparity()}, "adapters": "depth", "num_images_per_prompt": 2},
    "inpainting": {
        "condition": {"depth": disparity()},
        "adapters": "depth",
        "image": make_image(),
        "mask_image": torch.eye(32),
    },
}


@pytest.mark.parametrize("call", list(CALLS.values()), ids=list(CALLS))
def test_the_result_is_that_of_running_every_side_at_every_step(two, call, monkeypatch):
    call = {key: value["depth"] if key == "condition" and "adapters" in call else value for key, value in call.items()}
    once = sample(two, **call)
    run_everything(monkeypatch)
    always = sample(two, **call)
    torch.testing.assert_close(once.images, always.images, atol=1e-5, rtol=1e-5)
    for name, images in always.conditions.items():
        torch.testing.assert_close(once.conditions[name], images, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["PNDMScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler"])
@pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")
def test_with_other_schedulers(pipe, name, monkeypatch):
    pipe.scheduler = getattr(diffusers, name).from_config(pipe.scheduler.config, skip_prk_steps=True)
    once = sample(pipe, condition=disparity(), num_inference_steps=4)
    run_everything(monkeypatch)
    torch.testing.assert_close(
        once.images, sample(pipe, condition=disparity(), num_inference_steps=4).images, atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("known", [{"condition": disparity()}, {"image": make_image()}])
def test_a_given_side_has_one_pass_and_no_rows_after_it(pipe, known):
    with counted(pipe) as rows:
        sample(pipe, **known)
    assert rows == [2, 2, 2, 2]  # with the prompt and without: the given side once, then the other


def test_a_given_side_that_reads_runs_at_every_step(pipe):
    with counted(pipe) as rows:
        sample(pipe, condition=disparity(), direction="both")
    assert rows == [4, 4, 4]


def test_a_given_side_that_nobody_reads_is_not_run(pipe):
    with counted(pipe) as rows:
        sample(pipe, condition=disparity(), direction="y_reads_x")
    assert rows == [2, 2, 2]


def test_coarse_control_and_inpainting_of_a_side_run_both(pipe):
    mask = torch.zeros(32, 32)
    mask[8:20] = 1
    for known in ({"condition_strength": 0.7}, {"condition_mask": mask}):
        with counted(pipe) as rows:
            sample(pipe, condition=disparity(), **known)
        assert set(rows) == {4}


def test_a_fused_network_agrees(pipe):
    known = {"condition": disparity()}
    expected = sample(pipe, **known).images
    patch.fuse(pipe)
    torch.testing.assert_close(sample(pipe, **known).images, expected, atol=1e-5, rtol=1e-5)


def test_no_memory_is_left_after_a_call(pipe):
    sample(pipe, condition=disparity())
    assert not any("joint_memory" in name for name, _ in pipe.unet.named_modules())
