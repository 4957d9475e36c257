"""What each mode of the joint pipeline promises."""

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

import patch
from tests.pipelines.joint_images import disparity, make_image, sample
from tests.tiny_pipeline import quiet


def test_joint_samples_images_and_their_conditions(pipe):
    out = sample(pipe, num_images_per_prompt=2, output_type="pil")
    assert [image.size for image in out.images] == [(32, 32)] * 2
    assert [image.size for image in out.conditions["depth"]] == [(32, 32)] * 2
    assert out.values["depth"].shape == (2, 32, 32)
    assert out.values["depth"].dtype == np.float32
    assert np.abs(out.values["depth"]).max() <= 1


def plain_images(folders, **kwargs):
    plain = quiet(StableDiffusionPipeline.from_pretrained(folders.model))
    return sample(plain, **kwargs).images


@pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
def test_with_joint_attention_off_images_are_those_of_stable_diffusion(pipe, folders, guidance_scale):
    expected = plain_images(folders, guidance_scale=guidance_scale)
    with patch.disabled(pipe.unet):
        torch.testing.assert_close(sample(pipe, guidance_scale=guidance_scale).images, expected, atol=1e-5, rtol=0)
    silent = sample(pipe, guidance_scale=guidance_scale, adapters={"depth": 0.0})
    torch.testing.assert_close(silent.images, expected, atol=1e-5, rtol=0)


def test_joint_attention_changes_both_sides(pipe):
    off, on = sample(pipe, adapters={"depth": 0.0}), sample(pipe)
    assert (off.images - on.images).abs().max() > 1e-3
    assert (off.conditions["depth"] - on.conditions["depth"]).abs().max() > 1e-3


def test_a_given_image_comes_back_as_it_is_and_decides_the_condition(pipe):
    given = [sample(pipe, image=make_image(seed), output_type="pil") for seed in (1, 2)]
    assert np.array_equal(np.asarray(given[0].images[0]), np.asarray(make_image(1)))
    assert np.abs(given[0].values["depth"] - given[1].values["depth"]).max() > 1e-3


def test_a_given_condition_comes_back_as_it_is_and_decides_the_image(pipe):
    given = [sample(pipe, condition=disparity(seed)) for seed in (1, 2)]
    np.testing.assert_allclose(given[0].values["depth"][0], disparity(1), atol=1e-6)
    assert (given[0].images - given[1].images).abs().max() > 1e-3


def test_a_gray_image_and_its_values_are_the_same_condition(pipe):
    gray = make_image(0, "L")
    values = np.asarray(gray, dtype=np.float32) / 127.5 - 1
    torch.testing.assert_close(sample(pipe, condition=gray).images, sample(pipe, condition=values).images)


def test_the_condition_has_its_trigger_word_with_the_prompt_and_without(pipe, monkeypatch):
    texts, encode = [], pipe.encode_prompt

    def spy(prompts, device, copies, guided, negatives):
        texts.append((prompts, negatives))
        return encode(prompts, device, copies, guided, negatives)

    monkeypatch.setattr(pipe, "encode_prompt", spy)
    sample(pipe, "a cube", negative_prompt="fog")
    sample(pipe, "a cube")
    assert texts[:2] == [(["a cube"], ["fog"]), (["depth_map, a cube"], ["depth_map, fog"])]
    assert texts[2:] == [(["a cube"], [""]), (["depth_map, a cube"], ["depth_map"])]


def test_no_prompt_is_needed_for_a_known_side(pipe):
    assert torch.equal(sample(pipe, None, image=make_image()).images, sample(pipe, "", image=make_image()).images)


def test_without_text_guidance_has_no_effect(pipe):
    images = [sample(pipe, None, condition=disparity(), guidance_scale=s).images for s in (1.0, 9.0)]
    assert torch.equal(*images)


def test_strength_one_samples_anew(pipe):
    joint = sample(pipe)
    anew = sample(pipe, condition=disparity(), condition_strength=1.0)
    assert torch.equal(joint.images, anew.images)
    assert torch.equal(joint.conditions["depth"], anew.conditions["depth"])


def test_strength_zero_is_given(pipe):
    assert torch.equal(
        sample(pipe, condition=disparity(), condition_strength=0.0).images, sample(pipe, condition=disparity()).images
    )


def test_a_lower_strength_stays_nearer_to_the_image(pipe):
    known = torch.from_numpy(np.asarray(make_image()).transpose(2, 0, 1).copy()).float() / 127.5 - 1
    start = pipe.vae.encode(known[None]).latent_dist.mode() * pipe.vae.config.scaling_factor
    distances = []
    for strength in (0.1, 0.5, 1.0):
        latents = sample(pipe, image=known, strength=strength, num_inference_steps=10, output_type="latent").images
        distances.append((latents - start).norm().item())
    assert distances == sorted(distances)


def test_several_conditions_at_once(bare, folders):
    for name in ("depth", "edge"):
        bare.load_adapter_pair(folders.adapters, name)
    both = sample(bare, condition={"depth": disparity(1), "edge": disparity(2)})
    assert set(both.values) == {"depth", "edge"}
    np.testing.assert_allclose(both.values["edge"][0], disparity(2), atol=1e-6)
    one = sample(bare, condition={"depth": disparity(1)}, adapters="depth")
    silent = sample(bare, condition={"depth": disparity(1), "edge": disparity(2)}, adapters={"depth": 1.0, "edge": 0.0})
    torch.testing.assert_close(silent.images, one.images, atol=1e-5, rtol=0)
    assert (both.images - one.images).abs().max() > 1e-3


def test_one_condition_may_be_given_and_another_sampled(bare, folders):
    for name in ("depth", "edge"):
        bare.load_adapter_pair(folders.adapters, name)
    out = sample(bare, condition={"depth": disparity(1)}, image=make_image())
    np.testing.assert_allclose(out.values["depth"][0], disparity(1), atol=1e-6)
    assert out.values["edge"].std() > 0


def test_condition_guidance_is_the_difference_to_separate_models(pipe):
    """One DDIM step is affine in the prediction, so that guided latents are an affine combination of unguided ones."""
    one = {"num_inference_steps": 1, "guidance_scale": 1.0, "output_type": "latent"}
    for known in ({}, {"image": make_image()}, {"condition": disparity()}):
        joint, guided = sample(pipe, **one, **known), sample(pipe, condition_guidance_scale=2.0, **one, **known)
        separate = sample(pipe, adapters={"depth": 0.0}, **one, **known)
        for a, b, c in (
            (joint.images, separate.images, guided.images),
            (joint.conditions["depth"], separate.conditions["depth"], guided.conditions["depth"]),
        ):
            torch.testing.assert_close(c, a + 2 * (a - b), atol=1e-4, rtol=1e-4)


def test_direction_decides_who_reads(pipe):
    silent, one_way = sample(pipe, adapters={"depth": 0.0}), sample(pipe, direction="y_reads_x")
    torch.testing.assert_close(one_way.images, silent.images, atol=1e-5, rtol=0)
    assert (one_way.conditions["depth"] - silent.conditions["depth"]).abs().max() > 1e-3


def test_a_given_side_reads_only_where_the_adapter_knows_nothing_else(pipe):
    known = {"condition": disparity(), "condition_guidance_scale": 1.0}
    one_way, both = sample(pipe, direction="x_reads_y", **known), sample(pipe, direction="both", **known)
    assert (one_way.images - both.images).abs().max() > 1e-4
    assert torch.equal(sample(pipe, **known).images, one_way.images)
    pair = pipe.adapter_pairs["depth"]
    pipe.register_adapter_pair("depth", pair.trigger, pair.latent_scale, one_way=False)
    assert torch.equal(sample(pipe, **known).images, both.images)


def test_the_generator_decides_everything(pipe):
    first, same, other = sample(pipe, seed=1), sample(pipe, seed=1), sample(pipe, seed=2)
    assert torch.equal(first.images, same.images)
    assert torch.equal(first.conditions["depth"], same.conditions["depth"])
    assert not torch.equal(first.images, other.images)
    assert not torch.equal(first.conditions["depth"], other.conditions["depth"])


def test_a_generator_goes_on_from_call_to_call(pipe):
    generator = torch.Generator().manual_seed(0)
    first, second = (sample(pipe, generator=generator) for _ in range(2))
    assert not torch.equal(first.conditions["depth"], second.conditions["depth"])


def test_one_generator_for_each_image_gives_what_each_gives_alone(pipe):
    together = sample(pipe, num_images_per_prompt=2, generator=[torch.Generator().manual_seed(s) for s in (5, 6)])
    for i, seed in enumerate((5, 6)):
        alone = sample(pipe, seed=seed)
        torch.testing.assert_close(together.images[i], alone.images[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(together.conditions["depth"][i], alone.conditions["depth"][0], atol=1e-5, rtol=0)


def test_each_prompt_has_its_image(pipe):
    prompts, images = ["a cube", "a cone"], [make_image(1), make_image(2)]
    seeds = [3, 3, 4, 4]
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    together = sample(pipe, prompts, image=images, num_images_per_prompt=2, generator=generators)
    for i, seed in enumerate(seeds):
        alone = sample(pipe, prompts[i // 2], image=images[i // 2], seed=seed)
        np.testing.assert_allclose(together.values["depth"][i], alone.values["depth"][0], atol=1e-5)


def test_latents_of_one_call_are_an_image_of_the_next(pipe):
    sampled = sample(pipe, output_type="latent")
    assert sampled.values == {}
    again = sample(pipe, image=sampled.images, output_type="latent")
    assert torch.equal(again.images, sampled.images)
    torch.testing.assert_close(sample(pipe, image=sampled.images).images, sample(pipe).images, atol=1e-5, rtol=0)


def test_noise_may_be_passed(pipe):
    noise = [torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(s)) for s in (0, 1)]
    passed = [sample(pipe, latents=noise[0], condition_latents=noise[1], seed=seed) for seed in (0, 1)]
    assert torch.equal(passed[0].images, passed[1].images)
    assert torch.equal(passed[0].conditions["depth"], passed[1].conditions["depth"])
    assert torch.equal(passed[0].images, sample(pipe, latents=noise[0], condition_latents=noise[1]).images)


def test_output_types_agree(pipe):
    pt, array, pil = (sample(pipe, output_type=kind) for kind in ("pt", "np", "pil"))
    np.testing.assert_allclose(array.images, pt.images.permute(0, 2, 3, 1).numpy())
    assert np.array_equal(np.asarray(pil.images[0]), (array.images[0] * 255).round().astype(np.uint8))


def test_a_call_leaves_the_network_without_pairs(pipe):
    latents, text = torch.randn(1, 4, 8, 8), torch.randn(1, 16, 8)
    with torch.no_grad():
        before = pipe.unet(latents, 10, text).sample
        sample(pipe)
        assert torch.equal(pipe.unet(latents, 10, text).sample, before)


def test_other_sizes_than_the_models_work(pipe):
    out = sample(pipe, height=40, width=24, output_type="pil")
    assert out.images[0].size == (24, 40)
    assert out.values["depth"].shape == (1, 40, 24)


def test_the_adapters_of_a_compiled_network_are_found(pipe):
    pipe.unet = torch.compile(pipe.unet, backend="eager")
    assert pipe.known_adapters() == ["depth"]
