"""Videos between two frames, by a trained UNet and without training."""

import pytest
import torch

from models.unet_spatio_temporal_condition import UNetSpatioTemporalMaskedConditionModel
from pipelines.pipeline_stable_video_diffusion import StableVideoDiffusionEDMPipeline
from pipelines.pipeline_stable_video_diffusion_trans import (
    StableVideoDiffusionTransPipeline,
    guidance_between,
    weights_of_last,
)
from tests.tiny_pipeline import quiet
from utils.diffusion.solver import ResamplingSolver, repeat_levels
from utils.flow.interpolate import interpolate

F, SIDE = 4, 32


@pytest.fixture
def free(tiny_svd):
    return quiet(StableVideoDiffusionTransPipeline(**tiny_svd.components))


@pytest.fixture
def trained(free):
    unet = UNetSpatioTemporalMaskedConditionModel.from_unet(free.unet).eval()
    torch.manual_seed(1)
    torch.nn.init.normal_(unet.mask_embedding)
    free.register_modules(unet=unet.requires_grad_(False))
    return free


@pytest.fixture
def ends():
    return torch.rand(2, 2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).mul(2).sub(1).unbind(1)


def sample(pipe, first, last, seed=0, **options):
    generator = [torch.Generator().manual_seed(seed + k) for k in range(len(first))]
    options = {"num_inference_steps": 3, "output_type": "pt"} | options
    return pipe(first, last, generator=generator, **options).frames


@pytest.mark.parametrize("kind", ["free", "trained"])
def test_the_ends_are_the_images_and_what_is_between_is_sampled(kind, ends, request):
    pipe = request.getfixturevalue(kind)
    frames = sample(pipe, *ends)
    assert frames.shape == (2, F, 3, SIDE, SIDE)
    assert torch.equal(frames[:, 0], ends[0] / 2 + 0.5)
    assert torch.equal(frames[:, -1], ends[1] / 2 + 0.5)
    assert not torch.equal(frames[:, 1:-1], sample(pipe, *ends, seed=9)[:, 1:-1])


@pytest.mark.parametrize("kind", ["free", "trained"])
def test_the_last_frame_decides_what_is_between(kind, ends, request):
    pipe = request.getfixturevalue(kind)
    latents = [sample(pipe, ends[0], last, output_type="latent")[:, 1:-1] for last in (ends[1], -ends[1])]
    assert (latents[0] - latents[1]).abs().mean() > 1e-3


def test_a_video_of_a_batch_does_not_depend_on_the_others(free, ends):
    whole = sample(free, *ends)
    alone = sample(free, ends[0][1:], ends[1][1:], seed=1)
    assert torch.allclose(whole[1:], alone, atol=1e-4)


def test_the_training_free_way_reversed_in_time_is_its_mirror_in_time(free, ends):
    """With no step repeated, swapped ends and reversed noise give the reversed video."""
    noise = torch.randn(2, F, 4, SIDE // 4, SIDE // 4, generator=torch.Generator().manual_seed(3))
    options = {"repeats": 0, "noise_aug_strength": 0.0, "output_type": "latent"}
    there = sample(free, *ends, latents=noise, **options)
    back = sample(free, *ends[::-1], latents=noise.flip(1), **options)
    assert torch.allclose(there, back.flip(1), atol=1e-3)


def test_near_the_first_frame_the_prediction_is_that_of_the_base(free, tiny_svd, ends):
    noise = torch.randn(2, F, 4, SIDE // 4, SIDE // 4, generator=torch.Generator().manual_seed(3))
    options = {"num_inference_steps": 1, "noise_aug_strength": 0.0, "max_guidance_scale": 1.0, "output_type": "latent"}
    base = quiet(StableVideoDiffusionEDMPipeline(**tiny_svd.components))
    plain = base(ends[0], latents=noise, **options).frames
    between = sample(free, *ends, latents=noise, repeats=0, **options)
    distances = (between - plain).flatten(2).norm(dim=2).mean(dim=0)
    assert distances[1] < distances[2]


def test_a_trained_unet_is_conditioned_on_the_guess_which_is_by_flow_unless_given(trained, ends):
    guess = torch.stack([interpolate(*pair, F) for pair in zip(*ends, strict=True)])
    plain, same, other = (
        sample(trained, *ends, output_type="latent", **one)
        for one in ({}, {"guess": torch.cat([-guess[:, :1], guess[:, 1:]], dim=1)}, {"guess": -guess})
    )
    assert torch.equal(plain, same) and not torch.allclose(plain, other, atol=1e-2)


def test_levels_are_repeated_and_noise_stays_at_its_level():
    sigmas = torch.tensor([50.0, 10.0, 2.0, 0.5, 0.0])
    assert repeat_levels(sigmas, (1.0, 20.0), 2).tolist() == [50, 10, 10, 10, 2, 2, 2, 0.5, 0]
    solver = ResamplingSolver(generator=torch.Generator().manual_seed(0))
    x_0 = torch.zeros(1, 8, 4, 32, 32)
    level = torch.tensor(10.0)
    x_t, _ = solver.step(10 * torch.randn(x_0.shape), x_0, level, level)
    assert x_t.std() == pytest.approx(10, rel=0.02)


def test_guidance_is_weakest_at_both_ends():
    assert guidance_between(5, 1.0, 3.0).flatten().tolist() == [1, 2, 3, 2, 1]


@pytest.mark.parametrize("num_frames", [3, 8])
def test_each_frame_has_the_prediction_of_the_nearer_end_most(num_frames):
    weights = weights_of_last(num_frames).flatten()
    assert weights[0] == 0 and weights[-1] == 1 and torch.allclose(weights + weights.flip(0), torch.ones(num_frames))
    assert (weights.diff() >= 0).all() and ((weights < 0.2) | (weights > 0.8) | (weights == 0.5)).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_frames": 2}, "num_frames"),
        ({"repeats": -1}, "repeats"),
        ({"guess": torch.zeros(2, F, 3, SIDE, SIDE)}, "conditions a trained UNet"),
        ({"last": None}, "no last frame"),
        ({"last": torch.zeros(2, 3, 64, 64)}, "one size"),
        ({"last": torch.zeros(1, 3, SIDE, SIDE)}, "as many"),
    ],
)
def test_what_cannot_be_filled_is_refused(free, ends, change, words):
    last = change.pop("last", ends[1])
    with pytest.raises(ValueError, match=words):
        sample(free, ends[0], last, **change)


def test_a_guess_of_another_length_is_refused(trained, ends):
    with pytest.raises(ValueError, match="have to be"):
        sample(trained, *ends, guess=torch.zeros(2, F + 1, 3, SIDE, SIDE))
