"""Notices of libraries that say nothing to a user are dropped; all others come through."""

import logging
import subprocess
import sys
from pathlib import Path

from utils.messages.quiet import quiet_libraries

REPOSITORY = Path(__file__).resolve().parent.parent.parent


def test_known_notices_are_dropped_and_others_of_the_same_loggers_are_not(caplog):
    quiet_libraries()
    diffusers, transformers = "diffusers.models.modeling_utils", "transformers.utils.import_utils"
    said = {
        diffusers: ["There are modules in A that should be kept in float32: ['b']. Cast", "Something else"],
        transformers: ["`A` requires sentencepiece"],
    }
    dropped = {
        diffusers: ["There are modules in A that should be kept in float32: []. Cast"],
        transformers: ["`AImageProcessor` requires torchvision (not installed); falling back to `B`"],
    }
    loggers = [logging.getLogger(name) for name in (diffusers, transformers)]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
        logger.addHandler(caplog.handler)
    try:
        for logger in loggers:
            for message in [*dropped[logger.name], *said[logger.name]]:
                logger.warning(message)
    finally:
        for logger in loggers:
            logger.removeHandler(caplog.handler)
    messages = [record.getMessage() for record in caplog.records]
    assert set(messages) == {*said[diffusers], *said[transformers]}


def test_a_hub_that_cannot_be_reached_is_said_once():
    code = """
from pipelines.pipeline_stable_diffusion_joint import StableDiffusionJointPipeline
from utils.pretrained import load_pipeline
load_pipeline(StableDiffusionJointPipeline, "nobody/nothing", flag="--model")
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=REPOSITORY, capture_output=True, text=True)
    assert "Couldn't connect" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.endswith("--model nobody/nothing is neither a model folder nor one on the hub that can be reached.")


def test_pipelines_are_imported_and_change_their_type_without_a_word():
    code = """
from pipelines.pipeline_stable_diffusion_joint import StableDiffusionJointPipeline
pipe = StableDiffusionJointPipeline.from_pretrained("weights/tiny_sd")
import torch
pipe.to(torch.bfloat16)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=REPOSITORY, capture_output=True, text=True, timeout=120
    )
    assert "torchvision" not in done.stderr and "float32" not in done.stderr
