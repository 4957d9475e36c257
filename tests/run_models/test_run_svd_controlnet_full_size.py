"""A real clip that leads Stable Video Diffusion of the released size; `pytest -m slow -s` prints what it costs."""

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

F = 3


@pytest.mark.slow
def test_edges_and_flow_of_a_real_clip_lead_a_video_whose_sides_are_no_multiples_of_64(shared_media, tmp_path):
    clip = shared_media / "wolf.mp4"
    frame = read_video(clip, num_frames=1).pixels[0].add(1).mul(127.5).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(frame).convert("RGBA").save(tmp_path / "first.png")
    with report("base and two ControlNets"):
        pipe = full_size_pipeline(StableVideoDiffusionControlNetPipeline)
        nets = [ControlNetSVD.from_unet(pipe.unet, 3, pipe.vae_scale_factor, kind) for kind in ("edge", "flow")]
        for net in nets:
            net.controlnet_mid_block.bias.data.fill_(0.01)
        pipe.register_modules(controlnet=MultiControlNetSVD(nets))
    image = fit_image(pipe, read_image(tmp_path / "first.png"), None, 128, str(tmp_path / "first.png"))
    H, W = image.shape[-2:]
    sources = [ControlInput(kind, str(clip)).open() for kind in ("edge", "flow")]
    controls = read_controls(pipe, sources, F, (H, W))
    options = {"num_frames": F, "num_inference_steps": 1, "max_guidance_scale": 1.0, "output_type": "pt"}
    with report(f"{F} frames of {W}x{H}"):
        video = pipe(image[None], controls, controlnet_conditioning_scale=[1.0, 0.5], **options).frames[0]
    assert video.shape == (F, 3, H, W) and video.isfinite().all()
