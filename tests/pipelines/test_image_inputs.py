"""Images that are passed in Python are those that the scripts read: upright, transparent parts white, all bits."""

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.inputs import image_batch, mask_batch
from pipelines.pipeline_stable_video_diffusion import StableVideoDiffusionEDMPipeline
from pipelines.pipeline_stable_video_diffusion_controlnet import StableVideoDiffusionControlNetPipeline
from pipelines.pipeline_stable_video_diffusion_joint import StableVideoDiffusionJointPipeline
from pipelines.pipeline_trajectory import StableVideoDiffusionTrajectoryPipeline
from tests.tiny_pipeline import quiet
from utils.images import read_image, to_pixels

VIDEO_PIPELINES = [
    StableVideoDiffusionEDMPipeline,
    StableVideoDiffusionControlNetPipeline,
    StableVideoDiffusionJointPipeline,
    StableVideoDiffusionTrajectoryPipeline,
]
SIZE = (48, 32)


def turned(mode: str = "RGB", orientation: int = 6) -> Image.Image:
    """An image without symmetry, stored as 48x32 and shown as 32x48."""
    values = np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 4), dtype=np.uint8)
    image = Image.fromarray(values).convert(mode)
    image.getexif()[274] = orientation
    image.info["exif"] = image.getexif().tobytes()
    return image


@pytest.fixture(params=["RGB", "RGBA", "LA", "I;16"])
def path(request, tmp_path):
    """A file whose pixels are neither upright nor plain RGB."""
    if request.param == "I;16":
        image = Image.fromarray(np.random.default_rng(0).integers(0, 65536, SIZE[::-1], dtype=np.uint16))
    else:
        image = turned(request.param)
    image.save(tmp_path / "a.png", exif=turned().info["exif"])
    return tmp_path / "a.png"


@pytest.mark.parametrize("kind", VIDEO_PIPELINES)
def test_an_opened_image_begins_a_video_as_the_scripts_read_it(tiny_svd, kind, path):
    pipe = kind(**tiny_svd.components)
    expected = to_pixels(read_image(path))
    assert expected.shape == (3, 48, 32)
    for given in (Image.open(path), [Image.open(path)], (Image.open(path),)):
        assert torch.equal(pipe.check_pixels(given), expected[None])


def test_a_video_of_an_opened_image_is_that_of_the_image_that_is_read(tiny_svd, path):
    pipe = quiet(StableVideoDiffusionEDMPipeline(**tiny_svd.components))
    opened, read = (
        pipe(image, num_inference_steps=1, output_type="np", generator=torch.Generator().manual_seed(0)).frames
        for image in (Image.open(path), read_image(path))
    )
    assert opened.shape[2:] == (48, 32, 3)
    assert np.array_equal(opened, read)


def test_a_pair_of_an_opened_image_is_that_of_the_image_that_is_read(pipe, path):
    outputs = [
        pipe("a", image=image, num_inference_steps=1, output_type="pt", generator=torch.Generator().manual_seed(0))
        for image in (Image.open(path), read_image(path))
    ]
    assert torch.equal(outputs[0].images, outputs[1].images)
    assert torch.equal(outputs[0].conditions["depth"], outputs[1].conditions["depth"])


def test_an_opened_condition_is_turned_and_on_white(pipe, tmp_path):
    turned("RGBA").save(tmp_path / "a.png", exif=turned().info["exif"])
    out = pipe("a", condition=Image.open(tmp_path / "a.png"), num_inference_steps=1, output_type="pt")
    shown = to_pixels(read_image(tmp_path / "a.png"))
    torch.testing.assert_close(out.conditions["depth"][0] * 2 - 1, shown)


@pytest.mark.parametrize("mode", ["L", "1", "LA", "RGBA", "I;16"])
def test_an_opened_mask_is_turned_and_on_white(tmp_path, mode):
    values = np.zeros((2, 4), np.uint8)
    values[0, 0] = 255
    image = Image.fromarray(values)
    if mode in ("LA", "RGBA"):
        image = Image.merge(mode, [Image.new("L", (4, 2))] * (len(mode) - 1) + [Image.fromarray(255 - values)])
    elif mode == "I;16":
        image = Image.fromarray(values.astype(np.uint16) * 128)  # half of white and a little more
        image = Image.fromarray(np.asarray(image) + (values > 0).astype(np.uint16) * 200)
    else:
        image = image.convert(mode)
    image.save(tmp_path / "a.png", exif=turned().info["exif"])
    mask = mask_batch(Image.open(tmp_path / "a.png"), "The mask")
    assert mask.shape == (1, 1, 4, 2)
    assert mask.nonzero().tolist() == [[0, 0, 0, 1]]


@pytest.mark.parametrize("form", [np.asarray, torch.as_tensor])
def test_arrays_of_floats_are_images_in_every_pipeline(tiny_svd, form):
    pixels = np.random.default_rng(0).uniform(-1, 1, (2, 3, 32, 48)).astype(np.float32)
    pipe = StableVideoDiffusionEDMPipeline(**tiny_svd.components)
    gray = np.broadcast_to(pixels[:, :1], pixels.shape)
    cases = {
        "batch": (form(pixels), pixels),
        "one": (form(pixels[0]), pixels[:1]),
        "list": ([form(one) for one in pixels], pixels),
        "gray": (form(pixels[:, :1].copy()), gray),
        "plane": (form(pixels[0, 0]), gray[:1]),
    }
    for name, (given, expected) in cases.items():
        for found in (pipe.check_pixels(given), image_batch(given, "The image", 4)):
            assert np.array_equal(found.numpy(), expected), name


def test_arrays_are_read_in_any_order_of_memory_and_of_bytes():
    pixels = np.random.default_rng(0).uniform(-1, 1, (3, 4, 6)).astype(np.float32)
    mask = np.zeros((4, 6), np.float32)
    mask[:, 0] = 1
    for given in (pixels[:, :, ::-1], pixels.astype(">f4"), np.asfortranarray(pixels)):
        assert np.array_equal(image_batch(given, "The image")[0].numpy(), given)
    for given in (mask[:, ::-1], mask.astype(">f4"), mask.astype(bool)[:, ::-1]):
        assert np.array_equal(mask_batch(given, "The mask")[0, 0].numpy(), given)


@pytest.mark.parametrize("mode", ["RGB", "I", "RGBA"])
def test_what_has_no_pixel_or_holds_objects_is_refused_in_a_sentence(mode):
    with pytest.raises(ValueError, match="The image cannot be read: it is of 0x0 and has no pixel"):
        image_batch(Image.new(mode, (0, 0)), "The image")
    for read in (image_batch, mask_batch):
        with pytest.raises(ValueError, match="The image is an array of object: give"):
            read(np.zeros((3, 4, 6), object), "The image")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((32, 32, 3), np.uint8), "has the type torch.uint8: give floats"),
        (np.zeros((4, 32, 32), np.float32), r"has the shape \(4, 32, 32\): .* pass RGBA as a PIL image"),
        (torch.zeros(1, 4, 32, 32), r"has the shape \(1, 4, 32, 32\)"),
        (torch.full((1, 3, 32, 32), 255.0), r"reaches from 255 to 255: bring it to \[-1, 1\]"),
        (torch.full((1, 3, 32, 32), torch.nan), "not finite"),
        (["a.png"], "is a str: give a PIL image"),
        (Image.fromarray(np.full((32, 32), -1.0, np.float32)), r"cannot be read: its values \(mode F\) reach from -1"),
    ],
)
def test_what_is_no_image_is_refused_by_the_video_pipelines(tiny_svd, image, message):
    with pytest.raises(ValueError, match=f"The image.*{message}"):
        StableVideoDiffusionEDMPipeline(**tiny_svd.components).prepare(image)


def test_an_opened_file_that_is_cut_is_refused(pipe, tmp_path):
    turned().save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:2000])
    for arguments in ({"image": Image.open(tmp_path / "a.png")}, {"condition": Image.open(tmp_path / "a.png")}):
        with pytest.raises(ValueError, match="cannot be read"):
            pipe("a", **arguments)


RGBA = {
    "shares": lambda: torch.rand(4, 32, 32),
    "in [-1, 1]": lambda: torch.rand(1, 4, 32, 32) * 2 - 1,
    "in [0, 255]": lambda: (torch.rand(4, 32, 32) * 255).numpy(),
    "as large as latents": lambda: torch.rand(1, 4, 8, 8),
}


@pytest.mark.parametrize("side", ["image", "condition"])
@pytest.mark.parametrize("values", RGBA)
def test_four_channels_that_may_be_rgba_are_refused(pipe, side, values):
    for given in (RGBA[values](), [RGBA[values]()]):
        with pytest.raises(ValueError, match="4 channels from .*, which may be RGBA or latents: pass RGBA as a PIL"):
            pipe("a", **{side: given})


def test_latents_are_told_from_rgba_by_their_values_or_by_the_size_that_is_asked_for():
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    small = latents.clamp(-1, 1)
    assert torch.equal(image_batch(latents, "The image", 4), latents)
    assert torch.equal(image_batch(latents[0], "The image", 4), latents[:1])
    assert torch.equal(image_batch(small, "The image", 4, latent_size=(8, 8)), small)
    with pytest.raises(ValueError, match="together with the height and width"):
        image_batch(small, "The image", 4, latent_size=(16, 16))


def test_a_call_with_height_and_width_takes_any_latents(pipe):
    small = torch.zeros(1, 4, 8, 8)
    arguments = {"num_inference_steps": 1, "output_type": "latent"}
    assert torch.equal(pipe("a", image=small, height=32, width=32, **arguments).images, small)
    with pytest.raises(ValueError, match="may be RGBA or latents"):
        pipe("a", image=small, **arguments)
