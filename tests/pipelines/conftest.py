"""Pipelines on tiny random models."""

import pytest
import torch

from models.trip import TripFusion
from pipelines.pipeline_stable_diffusion_joint import StableDiffusionJointPipeline
from tests.tiny_pipeline import SIDE, quiet


@pytest.fixture
def bare(folders):
    """The pipeline without an adapter."""
    return quiet(StableDiffusionJointPipeline.from_pretrained(folders.model))


@pytest.fixture
def pipe(bare, folders):
    """The pipeline with a depth adapter."""
    bare.load_adapter_pair(folders.adapters / "depth.safetensors")
    return bare


@pytest.fixture
def estimator(bare, folders):
    """The pipeline with a LoRA that estimates depth."""
    bare.load_adapter_pair(folders.estimator)
    return bare


@pytest.fixture
def image():
    """Two first frames in [-1, 1]."""
    return torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture
def trained_fusion():
    """Makes a fusion that has learned something."""

    def of(form: str) -> TripFusion:
        torch.manual_seed(1)
        fusion = TripFusion(form, width=16, heads=2).requires_grad_(False)
        for parameter in fusion.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        return fusion

    return of
