"""Each wrong use of the joint pipeline gets its sentence, before any network runs."""

import numpy as np
import pytest
import torch
from PIL import Image

import patch

PICTURE = np.zeros((32, 32), dtype=np.float32)
LARGE = np.zeros((64, 64), dtype=np.float32)
MASK = np.ones((32, 32), dtype=bool)
DEEP = Image.fromarray(np.zeros((32, 32), dtype=np.uint16))

WRONG = {
    "nothing is asked for": ({}, "neither a prompt nor an image"),
    "everything is given": ({"image": PICTURE, "condition": PICTURE}, "nothing to sample"),
    "sizes differ": ({"image": PICTURE, "condition": LARGE, "strength": 0.5}, "64x64 pixels where 32x32"),
    "size differs from height": ({"image": PICTURE, "height": 64}, "32x32 pixels where 64x32"),
    "images differ in size": ({"image": [Image.new("RGB", (32, 32)), Image.new("RGB", (32, 64))]}, "have one size"),
    "size is no multiple": ({"prompt": "a", "height": 30, "width": 32}, "30x32 pixels do not divide by the model's 4"),
    "mask of another size": ({"image": PICTURE, "mask_image": LARGE}, "mask has 64x64 pixels"),
    "mask of three channels": ({"image": PICTURE, "mask_image": np.ones((3, 32, 32))}, "mask has the shape"),
    "mask between 0 and 1": ({"image": PICTURE, "mask_image": MASK * 0.5}, "values other than 0"),
    "mask without image": ({"prompt": "a", "mask_image": MASK}, "nothing to keep"),
    "mask of a given side": ({"image": PICTURE, "mask_image": MASK, "strength": 0.0}, "a mask has no use"),
    "strength too large": ({"image": PICTURE, "strength": 1.5}, "from 0 to 1, not 1.5"),
    "strength negative": ({"condition": PICTURE, "condition_strength": -0.1}, "from 0 to 1, not -0.1"),
    "strength of nothing": ({"prompt": "a", "strength": 0.5}, "needs an image to start from"),
    "adapter unknown": ({"prompt": "a", "adapters": "normal"}, "no adapter 'normal': loaded are depth"),
    "no adapter named": ({"prompt": "a", "adapters": []}, "adapters is empty"),
    "condition unknown": ({"condition": {"edge": PICTURE}}, "names 'edge', but the adapters in use are depth"),
    "fewer prompts than images": ({"prompt": ["a", "b"], "image": [PICTURE] * 3}, "3 for 2 prompts"),
    "fewer negative prompts": (
        {"prompt": ["a", "b"], "negative_prompt": ["c"]},
        "number of negative_prompt is 1 and that of prompts 2",
    ),
    "prompt is a number": ({"prompt": [3]}, "a string or a list of strings"),
    "prompt is no text": ({"prompt": 3}, "a string or a list of strings"),
    "size is negative": ({"prompt": "a", "height": -32, "width": 32}, "-32x32 pixels do not divide"),
    "image without pixels": ({"image": np.zeros((0, 3, 32, 32), np.float32)}, "no pixel"),
    "image of nan": ({"image": PICTURE * np.nan}, "not finite"),
    "fewer generators": (
        {"prompt": "a", "generator": [torch.Generator()] * 2},
        "number of generators is 2 and that of images 1",
    ),
    "no image asked for": ({"prompt": "a", "num_images_per_prompt": 0}, "num_images_per_prompt is 0"),
    "no step": ({"prompt": "a", "num_inference_steps": 0}, "num_inference_steps 0 is not allowed"),
    "guidance of nan": ({"prompt": "a", "guidance_scale": np.nan}, "guidance_scale nan is not allowed"),
    "joint guidance of infinity": ({"prompt": "a", "condition_guidance_scale": np.inf}, "condition_guidance_scale inf"),
    "eta of nan": ({"prompt": "a", "eta": np.nan}, "eta nan is not allowed"),
    "weight of nan": ({"prompt": "a", "adapters": {"depth": np.nan}}, "weight of the adapter .depth. nan"),
    "noise of nan": (
        {"prompt": "a", "latents": torch.full((1, 4, 8, 8), torch.nan)},
        "noise has values that are not finite",
    ),
    "direction unknown": ({"prompt": "a", "direction": "left"}, "direction 'left' is not allowed"),
    "output type unknown": ({"prompt": "a", "output_type": "jpg"}, "output_type 'jpg' is not allowed"),
    "image of bytes": ({"image": np.zeros((32, 32), np.uint8)}, "give floats in \\[-1, 1\\]"),
    "image beyond the range": ({"image": PICTURE + 5}, "bring it to \\[-1, 1\\]"),
    "image of odd channels": ({"image": np.zeros((32, 32, 7), np.float32)}, "has the shape \\(32, 32, 7\\)"),
    "image is a path": ({"image": "dog.png"}, "is a str"),
    "image of 16 bits": ({"condition": DEEP}, "read_disparity"),
    "noise of another shape": ({"prompt": "a", "latents": torch.zeros(1, 4, 4, 4)}, "noise has the shape"),
    "callback tensor unknown": ({"prompt": "a", "callback_on_step_end_tensor_inputs": ["text"]}, "'text'"),
}


@pytest.fixture
def untouched(pipe):
    """The pipeline with networks that must not run."""

    def forbidden(*args, **kwargs):
        raise AssertionError("a network ran before the arguments were checked")

    for network in (pipe.unet, pipe.vae.encoder, pipe.vae.decoder, pipe.text_encoder):
        network.register_forward_pre_hook(forbidden)
    return pipe


@pytest.mark.parametrize("what", WRONG)
def test_wrong_arguments_are_refused_before_a_network_runs(untouched, what):
    arguments, sentence = WRONG[what]
    with pytest.raises(ValueError, match=sentence) as caught:
        untouched(**arguments)
    assert "\n" not in str(caught.value)


def test_a_pipeline_without_an_adapter_is_refused(bare):
    with pytest.raises(ValueError, match="No adapter is loaded"):
        bare("a")


def test_an_adapter_loaded_without_its_header_is_refused_until_it_is_registered(bare, folders):
    patch.load(bare, folders.adapters, "depth")
    with pytest.raises(ValueError, match="register_adapter_pair"):
        bare("a")
    bare.register_adapter_pair("depth", trigger="depth_map")
    bare("a", num_inference_steps=1)


def test_a_published_adapter_needs_a_name(bare, shared_reference):
    with pytest.raises(ValueError, match="has no name of its own"):
        bare.load_adapter_pair(shared_reference / "unicon" / "checkpoint")


def test_one_value_for_several_conditions_is_refused(pipe, folders):
    pipe.load_adapter_pair(folders.adapters, "edge")
    with pytest.raises(ValueError, match="give a dict by name"):
        pipe("a", condition=PICTURE)


def test_an_inpainting_unet_is_refused(pipe):
    pipe.unet.register_to_config(in_channels=9)
    with pytest.raises(ValueError, match="takes 9 channels"):
        pipe("a")


def test_a_refused_call_leaves_no_pairs(pipe):
    with pytest.raises(ValueError, match="in this call"):
        pipe("a", callback_on_step_end=stumble, num_inference_steps=1)
    assert patch.get_pairs(pipe.unet) == ()


def stumble(*args):
    raise ValueError("in this call")


def test_a_folder_without_safety_checker_loads_without_a_warning(folders, caplog):
    import diffusers

    from pipelines.pipeline_stable_diffusion_joint import StableDiffusionJointPipeline

    diffusers.utils.logging.enable_propagation()
    try:
        StableDiffusionJointPipeline.from_pretrained(folders.model)
    finally:
        diffusers.utils.logging.disable_propagation()
    assert "safety checker" not in caplog.text


def test_trigger_word_and_latent_scale_come_from_the_file(pipe):
    pair = pipe.adapter_pairs["depth"]
    assert (pair.trigger, pair.latent_scale.mean, pair.latent_scale.std) == ("depth_map", 0.1, 1.5)
