"""Videos that follow tracks by a ControlNet: what the pipeline makes of the tracks."""

import pytest
import torch

from models.svd_controlnet import ControlNetSVD
from pipelines.pipeline_stable_video_diffusion_controlnet import StableVideoDiffusionControlNetPipeline
from pipelines.pipeline_trajectory_controlnet import StableVideoDiffusionTrajectoryControlNetPipeline
from tests.tiny_pipeline import quiet
from tests.tiny_video_pipeline import tiny_video_pipeline
from utils.tracks import Tracks
from utils.tracks.control_map import CONTROL_CHANNELS, track_control
from utils.tracks.guess import track_images

F, SIDE = 3, 32


@pytest.fixture(scope="module")
def pipe():
    base = tiny_video_pipeline()
    controlnet = ControlNetSVD.from_unet(base.unet, CONTROL_CHANNELS, 4)
    generator = torch.Generator().manual_seed(2)
    for name, parameter in controlnet.named_parameters():
        if name.startswith("controlnet_"):
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return quiet(StableVideoDiffusionTrajectoryControlNetPipeline(**base.components, controlnet=controlnet))


def make_tracks(step, num_frames=F):
    return Tracks(torch.tensor([[9.0, 9.0]]) + torch.arange(num_frames)[:, None, None] * torch.tensor(step), SIDE, SIDE)


def sample(pipe, image, *known, **options):
    generator = torch.Generator().manual_seed(0)
    return pipe(image, *known, num_inference_steps=2, output_type="latent", generator=generator, **options).frames


def test_tracks_become_the_control_and_the_warped_images_of_each_video(pipe, image):
    tracks = [make_tracks((3.0, 1.0)), make_tracks((-2.0, 0.0))]
    plain = quiet(StableVideoDiffusionControlNetPipeline(**pipe.components))
    control = torch.stack([track_control(one) for one in tracks])
    frames = torch.stack([track_images(*known) for known in zip(tracks, image, strict=True)])
    expected = sample(plain, image, control, image_frames=frames, num_frames=F, controlnet_conditioning_scale=0.7)
    found = sample(pipe, image, tracks, controlnet_conditioning_scale=0.7)
    assert torch.equal(found, expected)
    assert not torch.equal(sample(pipe, image, tracks[0], controlnet_conditioning_scale=0.7)[1], found[1])


@pytest.mark.parametrize(
    ("tracks", "message"),
    [
        ([make_tracks((1.0, 0.0))], "tracks for 1 video and 2 image"),
        (make_tracks((1.0, 0.0)).resized(64, 32), "64x32 pixels and the image of 32x32"),
        ([make_tracks((1.0, 0.0)), make_tracks((1.0, 0.0), 4)], "of 3 and of 4 frames"),
    ],
)
def test_tracks_that_do_not_fit_the_images_are_refused(pipe, image, tracks, message):
    with pytest.raises(ValueError, match=message):
        sample(pipe, image, tracks)
