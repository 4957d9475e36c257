"""A real clip through Stable Diffusion 1.5 and Stable Video Diffusion of the released sizes; -s prints the cost."""

import pytest

from pipelines.edit_fill import StableVideoDiffusionLedTransPipeline
from pipelines.edit_models import EditModels
from pipelines.pipeline_keyframe_edit import StableDiffusionKeyframeEditPipeline
from run_models.run_keyframe_edit import main
from tests.flags import flags
from tests.full_size import full_size_image_pipeline, full_size_pipeline, report, save_layout
from utils.video import read_video


@pytest.mark.slow
def test_a_real_clip_at_full_size_of_the_models(shared_media, tmp_path, monkeypatch):
    images = full_size_image_pipeline(StableDiffusionKeyframeEditPipeline, tmp_path / "words")
    videos = full_size_pipeline(StableVideoDiffusionLedTransPipeline)
    monkeypatch.setattr(EditModels, "load_images", lambda self: images)
    monkeypatch.setattr(EditModels, "load_videos", lambda self: videos)
    values = {"input_video": shared_media / "wolf.mp4", "prompt": "a husky", "source_prompt": "a wolf", "mask": "auto"}
    values |= {"image_model": save_layout(images, tmp_path / "sd"), "model_dir": save_layout(videos, tmp_path / "svd")}
    values |= {"structure": "inversion", "keyframe_interval": 20, "edit_steps": 2, "token_merging": 0.5}
    values |= {"num_inference_steps": 1, "max_guidance_scale": 1, "height": 64, "width": 128}
    with report("wolf.mp4, 40 frames of 128x64, 3 keyframes"):
        main(flags(output_dir=tmp_path / "out", **values))
    video = read_video(tmp_path / "out" / "video.mp4")
    assert video.fps == 20 and video.pixels.shape == (40, 3, 64, 128)
