"""Stable Video Diffusion with a ControlNet, held against the same without."""

from dataclasses import replace

import pytest
import torch

from models.svd_controlnet import ControlNetSVD
from pipelines.pipeline_stable_video_diffusion import StableVideoDiffusionEDMPipeline
from pipelines.pipeline_stable_video_diffusion_controlnet import (
    Control,
    StableVideoDiffusionControlNetPipeline,
    controlled,
)
from tests.tiny_pipeline import quiet
from utils.diffusion.sampling import VideoSampling

F, SIDE, CHANNELS, FACTOR = 3, 32, 5, 4


@pytest.fixture(scope="module")
def control():
    return torch.randn(2, F, CHANNELS, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def bare(tiny_svd):
    return quiet(StableVideoDiffusionControlNetPipeline(**tiny_svd.components))


@pytest.fixture
def pipe(bare):
    """With a ControlNet that acts."""
    bare.controlnet = ControlNetSVD.from_unet(bare.unet, CHANNELS, FACTOR)
    generator = torch.Generator().manual_seed(2)
    for name, parameter in bare.controlnet.named_parameters():
        if name.startswith("controlnet_"):
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return bare


def sample(pipe, image, *control, steps=2, **options):
    generator = [torch.Generator().manual_seed(seed) for seed in range(len(image))]
    options = {"num_frames": F, "num_inference_steps": steps, "output_type": "latent", **options}
    return pipe(image, *control, generator=generator, **options).frames


def test_without_a_control_it_is_the_pipeline_without_one(pipe, image):
    stock = quiet(StableVideoDiffusionEDMPipeline(**{k: v for k, v in pipe.components.items() if k != "controlnet"}))
    options = {"output_type": "pt", "temporal_smoothing": 0.3, "motion_scale": 1.2, "decode_chunk_size": 2}
    for order in (1, 2):
        options |= {"solver_order": order}
        assert torch.equal(sample(pipe, image, **options, steps=3), sample(stock, image, **options, steps=3))


def test_a_controlnet_that_starts_and_a_scale_of_zero_change_no_bit(pipe, image, control):
    expected = sample(pipe, image)
    assert torch.equal(sample(pipe, image, control, controlnet_conditioning_scale=0), expected)
    pipe.controlnet = ControlNetSVD.from_unet(pipe.unet, CHANNELS, FACTOR)
    assert torch.equal(sample(pipe, image, control), expected)


def test_the_control_acts_and_each_video_has_its_own(pipe, image, control):
    both = sample(pipe, image, control)
    assert (both - sample(pipe, image)).abs().max() > 1e-3
    generator = torch.Generator().manual_seed(1)
    options = {"num_frames": F, "num_inference_steps": 2, "output_type": "latent"}
    alone = pipe(image[1:], control[1:], generator=generator, **options).frames
    torch.testing.assert_close(both[1:], alone, atol=1e-4, rtol=0)
    one = sample(pipe, image, control[:1])
    torch.testing.assert_close(one[:1], both[:1], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("shares", "expected"),
    [((0.0, 1.0), [0, 1, 2, 3]), ((0.0, 0.5), [0, 1]), ((0.25, 0.75), [1, 2]), ((0.5, 1.0), [2, 3])],
)
def test_it_acts_between_its_shares_of_the_steps(pipe, image, control, monkeypatch, shares, expected):
    levels, acted = [], []
    predict = pipe.predict

    def keep(denoiser, *inputs):
        levels.append(inputs[-1])
        if denoiser.unet is not pipe.unet:
            acted.append(len(levels) - 1)
        return predict(denoiser, *inputs)

    monkeypatch.setattr(pipe, "predict", keep)
    start, end = shares
    sample(pipe, image[:1], control[:1], steps=4, control_guidance_start=start, control_guidance_end=end)
    assert acted == expected and len(levels) == 4


@pytest.mark.parametrize("guide_control", [False, True])
def test_both_predictions_of_the_guidance_have_the_control_unless_it_is_guided(pipe, image, control, guide_control):
    seen = []
    pipe.controlnet.register_forward_pre_hook(lambda controlnet, args: seen.append((args[0], args[-1])))
    sample(pipe, image, control, steps=1, guide_control=guide_control)
    (inputs, maps), *_ = seen
    assert not inputs[:2, :, 4:].any() and inputs[2:, :, 4:].any()
    assert torch.equal(maps[2:], control)
    assert torch.equal(maps[:2], control * (not guide_control))
    sample(pipe, image, control, steps=1, max_guidance_scale=1.0)
    assert torch.equal(seen[-1][1], control)


def test_several_controlnets_add_their_residuals_each_in_its_own_steps(pipe, image, control):
    inputs = pipe.prepare(image, VideoSampling(4), num_frames=F, generator=torch.Generator().manual_seed(0))
    first, second = Control(pipe.controlnet, control), Control(pipe.controlnet, -control, 0.5, end=0.5)

    def denoise(*controls):
        return pipe.denoise(replace(inputs, denoiser=controlled(pipe.unet, controls, inputs.num_steps)))

    assert torch.equal(denoise(), pipe.denoise(inputs))
    twice = denoise(replace(first, conditioning_scale=0.5), replace(first, conditioning_scale=0.5))
    torch.testing.assert_close(twice, denoise(first), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(denoise(first, second), denoise(first), atol=1e-3)
    calls = []
    pipe.controlnet.register_forward_hook(lambda *_: calls.append(1))
    denoise(first, second)
    assert len(calls) == 4 + 2


def test_each_of_several_controlnets_has_its_control_its_scale_and_its_steps(pipe, image, control, tmp_path):
    alone = sample(pipe, image, control, controlnet_conditioning_scale=0.5)
    pipe.controlnet.save_pretrained(tmp_path)
    pipe.load_controlnet(tmp_path, tmp_path)
    assert len(pipe.controlnet.nets) == 2
    halves = sample(pipe, image, [control, control], controlnet_conditioning_scale=0.25)
    torch.testing.assert_close(halves, alone, atol=1e-4, rtol=1e-4)
    others = [control, -control[:1]]
    assert torch.equal(sample(pipe, image, others, controlnet_conditioning_scale=[0.5, 0]), alone)
    late = {"controlnet_conditioning_scale": 0.5, "control_guidance_start": [0, 0.9]}
    assert torch.equal(sample(pipe, image, others, **late), alone)
    assert not torch.allclose(sample(pipe, image, others, controlnet_conditioning_scale=0.5), alone, atol=1e-3)


def test_several_controlnets_are_saved_with_the_pipeline_and_come_back(pipe, image, control, tmp_path):
    pipe.controlnet.save_pretrained(tmp_path / "one")
    pipe.load_controlnet(tmp_path / "one", tmp_path / "one")
    controls = [control, -control]
    expected = sample(pipe, image, controls)
    pipe.save_pretrained(tmp_path / "pipe")
    loaded = quiet(StableVideoDiffusionControlNetPipeline.from_pretrained(tmp_path / "pipe"))
    assert torch.equal(sample(loaded, image, controls), expected)
    loaded.enable_model_cpu_offload(device="cpu")
    torch.testing.assert_close(sample(loaded, image, controls), expected)


def test_guidance_leads_away_from_the_negative_bucket(pipe, image, control):
    buckets = []
    pipe.unet.register_forward_pre_hook(lambda unet, args: buckets.append(args[3][:, 1].tolist()))
    sample(pipe, image[:1], steps=1, motion_bucket_id=60, negative_motion_bucket_id=5)
    assert buckets == [[5, 60]]


def test_it_loads_what_a_training_saves_beside_a_base_of_diffusers(pipe, tiny_svd, image, control, tmp_path):
    expected = sample(pipe, image, control)
    tiny_svd.save_pretrained(tmp_path / "base")
    pipe.controlnet.save_pretrained(tmp_path / "controlnet")
    loaded = quiet(StableVideoDiffusionControlNetPipeline.from_pretrained(tmp_path / "base"))
    assert loaded.controlnet is None
    loaded.load_controlnet(tmp_path / "controlnet")
    assert torch.equal(sample(loaded, image, control), expected)


def test_in_bfloat16_the_controlnet_follows_the_base(pipe, image, control, tmp_path):
    pipe.controlnet.save_pretrained(tmp_path)
    pipe.to(torch.bfloat16)
    pipe.load_controlnet(tmp_path)
    assert pipe.controlnet.dtype == torch.bfloat16
    latents = sample(pipe, image, control)
    assert latents.dtype == torch.float32 and latents.isfinite().all()


def test_offloading_changes_nothing(pipe, image, control):
    expected = sample(pipe, image, control)
    pipe.enable_model_cpu_offload(device="cpu")
    torch.testing.assert_close(sample(pipe, image, control), expected)


def test_what_cannot_work_is_refused_in_one_sentence(bare, image, control, tmp_path):
    with pytest.raises(ValueError, match="call load_controlnet first"):
        sample(bare, image, control)
    with pytest.raises(FileNotFoundError, match="neither a model folder"):
        bare.load_controlnet("nowhere")
    ControlNetSVD.from_unet(bare.unet, CHANNELS, 8).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="VAE of factor 8, not 4"):
        bare.load_controlnet(tmp_path)
    bare.controlnet = ControlNetSVD.from_unet(bare.unet, CHANNELS, FACTOR)
    for wrong in (control[:, :2], control[..., ::2], control[:, :, :4], control[0], control[[0, 1, 1]]):
        with pytest.raises(ValueError, match=r"has to be \(2, 3, 5, 32, 32\)"):
            sample(bare, image, wrong)
    with pytest.raises(ValueError, match="2 controls for 1 ControlNet: pass one each"):
        sample(bare, image, [control, control])
    with pytest.raises(ValueError, match="control_guidance_end has 2 values for 1 ControlNet"):
        sample(bare, image, control, control_guidance_end=[0.5, 1.0])
    with pytest.raises(ValueError, match="from 0.5 to 0.5"):
        Control(bare.controlnet, control, start=0.5, end=0.5)
    with pytest.raises(ValueError, match="conditioning_scale nan is not allowed"):
        sample(bare, image, control, controlnet_conditioning_scale=torch.nan)
    with pytest.raises(ValueError, match="not finite"):
        sample(bare, image, control * torch.nan)


def test_images_that_are_the_image_change_nothing_and_others_do(pipe, image, control):
    same = image[:, None].expand(-1, F, -1, -1, -1)
    plain = sample(pipe, image, control, steps=1)
    torch.testing.assert_close(sample(pipe, image, control, steps=1, image_frames=same), plain, atol=1e-4, rtol=1e-4)
    other = sample(pipe, image, control, steps=1, image_frames=same.flip(-1))
    assert (other - plain).abs().max() > 1e-3


def test_images_of_another_number_of_frames_are_refused(pipe, image, control):
    with pytest.raises(ValueError, match="image_frames are .* and have to be"):
        sample(pipe, image, control, image_frames=image[:, None])
    with pytest.raises(ValueError, match="image_frames has values that are not finite"):
        sample(pipe, image, control, image_frames=image[:, None].expand(-1, F, -1, -1, -1) * torch.nan)
