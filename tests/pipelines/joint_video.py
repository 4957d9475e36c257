"""A joint pipeline of video and flow on tiny random networks, and what it samples from."""

import torch

import patch
from pipelines.flow_adapter import FlowAdapter
from pipelines.pipeline_stable_video_diffusion_joint import StableVideoDiffusionJointPipeline
from tests.tiny_pipeline import quiet
from tests.tiny_video_pipeline import tiny_video_pipeline
from utils.flow.code import FlowCode
from utils.latents import LatentScale

B, F, SIZE = 2, 4, 32
CODE = FlowCode(scale=LatentScale(0.1, 0.7))


def random_image(seed=0):
    return torch.rand(B, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def random_video():
    return torch.rand(B, F, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)) * 2 - 1


def random_flow():
    return torch.randn(B, F - 1, 2, SIZE, SIZE, generator=torch.Generator().manual_seed(2)) * 3


def make_pipe(trained=True, temporal=False):
    base = tiny_video_pipeline()
    pipe = quiet(StableVideoDiffusionJointPipeline(**base.components))
    patch.add_joint(pipe.unet, "flow", rank=2, post="aligned", temporal=temporal)
    if trained:
        with torch.no_grad():
            for parameter in patch.joint_parameters(pipe.unet, "flow"):
                parameter.normal_(std=0.3)
    pipe.unet.requires_grad_(False)
    pipe.flow_adapter = FlowAdapter("flow", CODE)
    return pipe


def sample(pipe, **changes):
    options = {"num_inference_steps": 3, "output_type": "pt", "generator": torch.Generator().manual_seed(3), **changes}
    return pipe(random_image(), **options)
