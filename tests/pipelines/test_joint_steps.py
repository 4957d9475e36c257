"""What happens between the steps of the joint pipeline: inpainting, and callbacks."""

import numpy as np
import pytest
import torch

from tests.pipelines.joint_images import disparity, make_image, sample


def inner_mask():
    mask = torch.zeros(32, 32)
    mask[8:20, 4:24] = 1
    return mask


@pytest.mark.parametrize("strength", [None, 0.6])
def test_inpainting_an_image_keeps_the_known_pixels(pipe, strength):
    mask = inner_mask()
    out = sample(pipe, image=make_image(), mask_image=mask, strength=strength, output_type="pil")
    sampled, known = np.asarray(out.images[0]), np.asarray(make_image())
    assert np.array_equal(sampled[mask == 0], known[mask == 0])
    assert not np.array_equal(sampled[mask == 1], known[mask == 1])


def test_inpainting_a_condition_keeps_the_known_values(pipe):
    mask = inner_mask()
    values = sample(pipe, condition=disparity(), condition_mask=mask).values["depth"][0]
    np.testing.assert_allclose(values[mask == 0], disparity()[mask == 0], atol=1e-6)
    assert np.abs(values - disparity())[mask == 1].mean() > 1e-2


def test_inpainting_with_a_given_image_samples_the_masked_depth_from_it(pipe):
    sampled = [sample(pipe, image=make_image(s), condition=disparity(), condition_mask=inner_mask()) for s in (1, 2)]
    difference = np.abs(sampled[0].values["depth"] - sampled[1].values["depth"])[0]
    assert difference[inner_mask() == 1].max() > 1e-3
    assert difference[inner_mask() == 0].max() == 0


def test_samples_that_leave_the_range_of_images_are_refused(pipe):
    with pytest.raises(FloatingPointError, match="Bring guidance scales and other factors nearer to their defaults"):
        sample(pipe, prompt="a", guidance_scale=1e30)


def test_a_mask_all_white_keeps_nothing(pipe):
    out = sample(pipe, image=make_image(), mask_image=torch.ones(32, 32))
    torch.testing.assert_close(out.images, sample(pipe).images, atol=1e-6, rtol=0)


def test_the_callback_sees_each_step_and_may_change_the_latents(pipe):
    seen = []

    def callback(called, i, t, tensors):
        assert called is pipe
        seen.append((i, int(t), set(tensors), set(tensors["condition_latents"])))
        return {"latents": torch.zeros_like(tensors["latents"])}

    names = ["latents", "condition_latents"]
    out = sample(pipe, callback_on_step_end=callback, callback_on_step_end_tensor_inputs=names, output_type="latent")
    assert [i for i, *_ in seen] == [0, 1, 2]
    assert [t for _, t, *_ in seen] == pipe.scheduler.timesteps.tolist()
    assert seen[0][2:] == ({"latents", "condition_latents"}, {"depth"})
    assert out.images.abs().max() == 0


def test_the_callback_counts_from_0_where_coarse_control_starts_late(pipe):
    seen = []
    known = {"image": make_image(), "strength": 0.5, "condition": disparity(), "condition_strength": 0.5}
    sample(pipe, **known, num_inference_steps=4, callback_on_step_end=lambda pipe, *args: seen.append(args[:2]) or {})
    assert seen == list(enumerate(pipe.scheduler.timesteps[2:]))
    assert pipe.num_timesteps == 2


def test_a_callback_can_stop_the_call(pipe):
    steps = []

    def callback(called, i, t, tensors):
        steps.append(i)
        called._interrupt = True
        return {}

    sample(pipe, callback_on_step_end=callback)
    assert steps == [0]
