"""Frames between photographs by Stable Video Diffusion of the released size; `pytest -m slow -s` prints the costs."""

import pytest
import torch
from PIL import Image

from models.unet_spatio_temporal_condition import UNetSpatioTemporalMaskedConditionModel
from pipelines.pipeline_stable_video_diffusion_trans import StableVideoDiffusionTransPipeline
from pipelines.trans_images import fit_keyframes
from run_models.run_svd_trans import sample_between
from tests.full_size import full_size_pipeline, report
from utils.video import read_video

OPTIONS = {"num_inference_steps": 1, "repeats": 0, "max_guidance_scale": 1.0}


@pytest.fixture(scope="module")
def pipe():
    return full_size_pipeline(StableVideoDiffusionTransPipeline)


def run(pipe, paths, name, total_frames=3, **size):
    keyframes = fit_keyframes(pipe, [str(path) for path in paths], size.get("height"), size.get("width"))
    H, W = keyframes[0].shape[-2:]
    with report(f"{name}, {total_frames} frames of {W}x{H}"):
        video = sample_between(pipe, keyframes, total_frames, most=total_frames, **OPTIONS)
    assert video.shape == (total_frames, 3, H, W) and video.isfinite().all()
    for shown, given in ((video[0], keyframes[0]), (video[-1], keyframes[-1])):
        torch.testing.assert_close(shown, given, atol=1e-6, rtol=0)
    return video


@pytest.mark.slow
def test_photographs_whose_sides_are_no_multiples_of_64(pipe, shared_media, tmp_path):
    """256x160 pixels become 128x64 or what a side asks for; an alpha channel is laid on white."""
    paths = [shared_media / f"pair_dog_{which}.png" for which in ("first", "last")]
    run(pipe, paths, "training-free", width=128)
    images = [Image.open(path).convert("RGB") for path in paths]
    for image, path in zip(images, ("a.png", "b.png"), strict=True):
        image = image.resize((201, 131))
        image.putalpha(Image.linear_gradient("L").resize(image.size))
        image.save(tmp_path / path)
    run(pipe, [tmp_path / "a.png", tmp_path / "b.png"], "training-free, with alpha", height=64)


@pytest.mark.slow
def test_frames_of_a_video_by_a_unet_with_a_mask_channel(pipe, shared_media, tmp_path):
    frames = read_video(shared_media / "wolf.mp4").pixels[[0, 20]]
    paths = [tmp_path / name for name in ("a.png", "b.png")]
    for frame, path in zip(frames, paths, strict=True):
        Image.fromarray(frame.add(1).mul(127.5).round().byte().permute(1, 2, 0).numpy()).save(path)
    pipe.register_modules(unet=UNetSpatioTemporalMaskedConditionModel.from_unet(pipe.unet))
    run(pipe, paths, "conditioned on both frames", total_frames=4, height=64, width=64)
