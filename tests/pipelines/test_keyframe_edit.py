"""Keyframes edited together by Stable Diffusion."""

import pytest
import torch
from PIL import Image

import patch
from pipelines.edit_masks import difference_map, snap_masks, soften, widen
from pipelines.pipeline_keyframe_edit import StableDiffusionKeyframeEditPipeline
from tests.tiny_pipeline import quiet

SIDE = 32
PROMPTS = "a blue ball", "a red ball"


@pytest.fixture
def pipe(folders):
    pipe = quiet(StableDiffusionKeyframeEditPipeline.from_pretrained(folders.model))
    pipe.load_adapter_pair(folders.adapters / "depth.safetensors")
    return pipe


@pytest.fixture
def frames():
    return torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 2 - 1


def edit(pipe, frames, mask=None, prompts=PROMPTS, **settings):
    settings = {"edit_steps": 3, "output_type": "pt", "generator": torch.Generator().manual_seed(0)} | settings
    out = pipe(frames, *prompts, mask, **settings)
    return out.images * 2 - 1 if isinstance(out.images, torch.Tensor) else out.images


@pytest.mark.parametrize("structure", ["depth", "inversion", "depth+inversion", "strength"])
def test_each_structure_gives_edited_keyframes_and_leaves_the_network_as_it_was(pipe, frames, structure):
    before = dict(pipe.unet.state_dict())
    images = edit(pipe, frames, structure=structure)
    assert images.shape == frames.shape and images.isfinite().all()
    assert (images - frames).abs().mean() > 0.05
    assert not patch.get_pairs(pipe.unet)
    assert all(torch.equal(value, before[name]) for name, value in pipe.unet.state_dict().items())


def test_keyframes_see_one_another_unless_each_is_edited_alone(pipe, frames):
    other = torch.cat([frames[:2], -frames[2:]])
    for cross_frame in (True, False):
        options = {"structure": "strength", "strength": 0.6, "cross_frame": cross_frame}
        same = torch.allclose(edit(pipe, frames, **options)[:2], edit(pipe, other, **options)[:2], atol=1e-4)
        assert same != cross_frame


def test_equal_keyframes_become_equal_ones(pipe, frames):
    images = edit(pipe, frames[:1].repeat(3, 1, 1, 1))
    torch.testing.assert_close(images, images[:1].expand_as(images), atol=1e-4, rtol=0)


def test_token_merging_is_an_option(pipe, frames):
    plain, merged = (edit(pipe, frames, token_merging=share) for share in (0.0, 0.6))
    assert not torch.equal(plain, merged) and (plain - merged).abs().mean() < 0.5


def test_inversion_leads_back_to_the_keyframes(pipe, frames):
    """With the source prompt and no guidance, there and back gives nearly what the autoencoder gives."""
    options = {"edit_guidance_scale": 1.0, "prompts": ("a red ball", "a red ball"), "edit_steps": 40}
    clean = pipe.vae.decode(pipe.encode_pixels(frames) / pipe.vae.config.scaling_factor).sample.clamp(-1, 1)
    errors = [
        (edit(pipe, frames, structure=structure, strength=0.6, **options) - clean).abs().mean()
        for structure in ("inversion", "strength")
    ]
    assert errors[0] < 0.5 * errors[1]


def test_a_mask_keeps_every_pixel_outside_of_it(pipe, frames):
    mask = torch.zeros(1, 1, SIDE, SIDE)
    mask[..., 8:20, 8:20] = 1
    images = edit(pipe, frames, mask)
    kept = mask.expand(3, 3, -1, -1) == 0
    torch.testing.assert_close(images[kept], frames[kept], atol=1e-6, rtol=0)
    assert (images[~kept] - frames[~kept]).abs().mean() > 0.05


def test_a_mask_found_by_the_prompts_keeps_pixels_too(pipe, frames):
    out = pipe(frames, *PROMPTS, "auto", edit_steps=2, output_type="pt", mask_threshold=0.6)
    assert out.mask.shape == (3, 1, SIDE, SIDE) and 0 < out.mask.mean() < 1
    kept = (out.mask == 0).expand(-1, 3, -1, -1)
    torch.testing.assert_close((out.images * 2 - 1)[kept], frames[kept], atol=1e-6, rtol=0)


def test_pil_images_are_keyframes(pipe):
    images = edit(pipe, [Image.new("RGB", (SIDE, SIDE), color) for color in ("red", "blue")], output_type="pil")
    assert [image.size for image in images] == [(SIDE, SIDE)] * 2


def test_a_pipeline_without_an_adapter_inverts(folders, frames):
    pipe = quiet(StableDiffusionKeyframeEditPipeline.from_pretrained(folders.model))
    assert edit(pipe, frames, structure="inversion").shape == frames.shape
    with pytest.raises(ValueError, match="needs a joint adapter"):
        edit(pipe, frames, structure="depth")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompts": (" ", "a red ball")}, "prompt is empty"),
        ({"mask": "auto", "prompts": ("a red ball", "a red ball")}, "where the prompts differ"),
        ({"mask": "auto", "prompts": ("a red ball", "")}, "where the prompts differ"),
        ({"mask": "all"}, "'all' is unknown"),
        ({"mask": torch.ones(1, 1, 16, 16)}, "pass one of their size"),
        ({"mask": torch.ones(2, 1, SIDE, SIDE)}, "or one for each"),
        ({"structure": "lines"}, "structure"),
        ({"strength": 0.0}, "strength"),
    ],
)
def test_what_cannot_be_edited_is_refused(pipe, frames, changes, words):
    with pytest.raises(ValueError, match=words):
        edit(pipe, frames, **changes)


def test_keyframes_of_two_sizes_are_refused(pipe):
    with pytest.raises(ValueError, match="have one size"):
        edit(pipe, [Image.new("RGB", (SIDE, SIDE)), Image.new("RGB", (SIDE, 2 * SIDE))])


def test_masks_follow_the_edges_of_colours():
    frame = torch.full((1, 3, 32, 32), -0.5)
    frame[..., 8:24, 8:24] = torch.tensor([0.8, -0.8, -0.8]).view(3, 1, 1)
    change = torch.zeros(1, 1, 8, 8)
    change[..., 1:7, 1:7], change[..., 3:5, 3:5] = 0.5, 1  # coarse: beyond the square, at a quarter of the resolution
    mask = snap_masks(frame, change, threshold=0.35)
    due = torch.zeros(1, 1, 32, 32)
    due[..., 8:24, 8:24] = 1
    assert (mask * due).sum() / (mask + due).clamp(max=1).sum() > 0.9
    wide = widen(mask)
    assert wide.sum() > mask.sum() and (soften(wide)[wide == 0] == 0).all()


def test_a_difference_map_is_1_where_predictions_differ_most():
    latents = torch.zeros(2, 4, 8, 8)
    change = torch.zeros(2, 4, 8, 8)
    change[:, :, 2:4, 2:4] = 3.0
    found = difference_map(latents, lambda noise, level: change, torch.Generator())
    assert found[:, 0, 2:4, 2:4].min() == 1 and found.sum() == 8
