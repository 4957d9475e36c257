"""Real frames that lead Stable Video Diffusion of the released size; `pytest -m slow -s` prints what it costs."""

import shutil

import pytest
from PIL import Image

from models.multi_controlnet import MultiControlNetSVD
from models.svd_controlnet import ControlNetSVD
from pipelines.control_inputs import ControlInput, read_controls
from pipelines.pipeline_stable_video_diffusion_controlnet import StableVideoDiffusionControlNetPipeline
from pipelines.sizes import fit_image
from tests.full_size import full_size_pipeline, report
from utils.images import read_image
from utils.video import read_video

KINDS = ("edge", "flow")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pipe():
    with report("base and two ControlNets"):
        pipe = full_size_pipeline(StableVideoDiffusionControlNetPipeline)
        nets = [ControlNetSVD.from_unet(pipe.unet, 3, pipe.vae_scale_factor, kind) for kind in KINDS]
        for net in nets:
            net.controlnet_mid_block.bias.data.fill_(0.01)
        pipe.register_modules(controlnet=MultiControlNetSVD(nets))
    return pipe


def test_edges_and_flow_of_a_real_clip_lead_a_video_from_a_frame_with_an_alpha_channel(pipe, shared_media, tmp_path):
    clip = shared_media / "wolf.mp4"
    frame = read_video(clip, num_frames=1).pixels[0].add(1).mul(127.5).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(frame).convert("RGBA").save(tmp_path / "first.png")
    video = sample(pipe, tmp_path / "first.png", clip, 3)
    assert video.shape == (3, 3, 128, 128) and video.isfinite().all()


def test_two_real_frames_whose_height_is_no_multiple_of_64_lead_a_video(pipe, shared_media, tmp_path):
    for number, name in enumerate(("first", "last")):
        shutil.copy(shared_media / f"pair_dog_{name}.png", tmp_path / f"{number}.png")
    video = sample(pipe, tmp_path / "0.png", tmp_path, 2)
    assert video.shape == (2, 3, 64, 128) and video.isfinite().all()


def sample(pipe, image, frames, num_frames):
    """A video of one step, 128 pixels wide, from an image, led by edges and flow of real frames."""
    pixels = fit_image(pipe, read_image(image), None, 128, str(image))
    H, W = pixels.shape[-2:]
    sources = [ControlInput(kind, str(frames)).open() for kind in KINDS]
    controls = read_controls(pipe, sources, num_frames, (H, W))
    options = {"num_frames": num_frames, "num_inference_steps": 1, "max_guidance_scale": 1.0, "output_type": "pt"}
    with report(f"{num_frames} frames of {W}x{H}"):
        return pipe(pixels[None], controls, controlnet_conditioning_scale=[1.0, 0.5], **options).frames[0]
