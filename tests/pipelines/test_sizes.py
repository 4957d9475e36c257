"""What users pass is brought to the size of the results, flow with its vectors."""

from types import SimpleNamespace

import pytest
import torch
from diffusers import StableVideoDiffusionPipeline

from pipelines.sizes import fit_flow, fit_video, target_size


@pytest.fixture
def video_pipe(tiny_svd):
    """Its own size is 64x64, and 8 divides all sides."""
    assert isinstance(tiny_svd, StableVideoDiffusionPipeline)
    return tiny_svd


def test_a_video_has_the_models_number_of_pixels_and_an_image_its_shorter_side(video_pipe):
    image_pipe = SimpleNamespace(vae_scale_factor=4, unet=video_pipe.unet, vae=video_pipe.vae)
    assert target_size(video_pipe, None, None, (50, 200)) == (32, 128)
    assert target_size(image_pipe, None, None, (50, 200)) == (64, 256)
    for pipe in (video_pipe, image_pipe):
        assert target_size(pipe, 32, None, (50, 100)) == (32, 64)
        assert target_size(pipe, 32, 40, (50, 100)) == (32, 40)


def test_frames_and_flow_are_cut_alike_and_vectors_keep_pointing_at_what_they_did(video_pipe, capsys):
    H, W = 80, 120
    x = torch.arange(W, dtype=torch.float32).expand(H, W)
    frames = torch.stack([x, x, x])[None] / W * 2 - 1
    flow = torch.stack([torch.full((H, W), 6.0), torch.full((H, W), -3.0)])[None]
    fitted, moved = fit_video(video_pipe, frames, 40, 40, "a.mp4"), fit_flow(video_pipe, flow, 40, 40, "flows")
    assert fitted.shape == (1, 3, 40, 40) and moved.shape == (1, 2, 40, 40)
    assert torch.allclose(moved[0, 0], torch.tensor(3.0)) and torch.allclose(moved[0, 1], torch.tensor(-1.5))
    columns = (fitted[0, 0, 20] + 1) / 2 * W
    assert torch.allclose(columns[1:] - columns[:-1], torch.tensor(2.0), atol=1e-3)  # scaled by a half, both ways
    said = capsys.readouterr().out
    assert "a.mp4: 120x80 pixels are resized and cropped to 40x40." in said
    assert "flows: 120x80 pixels are resized and cropped to 40x40." in said


def test_flow_keeps_its_size_up_to_the_multiple_and_that_of_a_large_one_is_said(video_pipe, capsys):
    flow = torch.randn(2, 2, 64, 64)
    assert torch.equal(fit_flow(video_pipe, flow), flow)
    assert capsys.readouterr().out == ""
    assert fit_flow(video_pipe, torch.randn(1, 2, 30, 43), name="a.flo").shape == (1, 2, 32, 40)
    assert "a.flo: 43x30 pixels are resized and cropped to 40x32." in capsys.readouterr().out
    assert fit_flow(video_pipe, torch.randn(1, 2, 200, 96), name="a.flo").shape == (1, 2, 200, 96)
    assert "has the size of a.flo, 96x200; --height and --width make it smaller" in capsys.readouterr().out


def test_frames_that_have_the_size_already_stay_as_they_are_in_memory(video_pipe):
    frames = torch.randn(2, 64, 64, 3).permute(0, 3, 1, 2)
    assert fit_video(video_pipe, frames) is frames


@pytest.mark.parametrize(
    ("size", "sides", "expected"),
    [
        ((1080, 1920), {}, (48, 88)),
        ((64, 64), {}, (64, 64)),
        ((100, 50), {"width": 40}, (80, 40)),
        ((100, 50), {"height": 64, "width": 64}, (64, 64)),
        ((10, 4000), {}, (8, 1280)),
    ],
)
def test_the_size_keeps_the_shape_and_the_number_of_pixels_of_the_model(tiny_svd, size, sides, expected):
    from pipelines.pipeline_stable_video_diffusion import StableVideoDiffusionEDMPipeline

    pipe = StableVideoDiffusionEDMPipeline(**tiny_svd.components)
    assert target_size(pipe, sides.get("height"), sides.get("width"), size) == expected
