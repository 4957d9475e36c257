"""Pipelines on tiny random models."""

import pytest

from pipelines.pipeline_stable_diffusion_joint import StableDiffusionJointPipeline


@pytest.fixture
def bare(folders):
    """The pipeline without an adapter."""
    pipe = StableDiffusionJointPipeline.from_pretrained(folders.model)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def pipe(bare, folders):
    """The pipeline with a depth adapter."""
    bare.load_adapter_pair(folders.adapters / "depth.safetensors")
    return bare
