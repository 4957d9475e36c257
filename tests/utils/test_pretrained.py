"""Pretrained models by name."""

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline

from pipelines.pipeline_stable_video_diffusion import StableVideoDiffusionEDMPipeline
from utils.pretrained import load_pipeline, loading


@pytest.mark.parametrize("name", ["nowhere", "/nowhere", "a/b/c", "../nowhere"])
def test_what_is_neither_a_folder_nor_a_name_on_the_hub_is_refused_in_one_sentence(name):
    with pytest.raises(FileNotFoundError) as caught, loading(name):
        AutoencoderKL.from_pretrained(name)
    assert str(caught.value) == f"{name} is neither a model folder nor one on the hub that can be reached."


def test_in_bfloat16_only_the_autoencoder_of_videos_stays_in_float32(svd_base, folders):
    """Pipelines of diffusers take one type for all parts."""
    videos = load_pipeline(StableVideoDiffusionEDMPipeline, svd_base, "bfloat16")
    images = load_pipeline(StableDiffusionPipeline, folders.model, "bfloat16")
    assert [pipe.vae.dtype for pipe in (videos, images)] == [torch.float32, torch.bfloat16]
    assert {videos.unet.dtype, videos.image_encoder.dtype} == {torch.bfloat16}
    assert videos(torch.zeros(1, 3, 32, 32), num_inference_steps=1, output_type="pt").frames.isfinite().all()
