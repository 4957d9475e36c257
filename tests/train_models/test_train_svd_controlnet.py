"""Training of ControlNets over time: the loss, and whole runs."""

import json

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import train_models.train_svd_controlnet as script
from models.svd_controlnet import ControlledUNet, ControlNetSVD
from pipelines.pipeline_stable_video_diffusion_controlnet import StableVideoDiffusionControlNetPipeline
from tests.small_trainings import SIZE, F, Seen, arguments, clip_batch
from tests.tiny_video_pipeline import save_controlnet
from utils.data.control import CONTROL_CHANNELS
from utils.diffusion.edm import EDM
from utils.diffusion.svd_condition import ConditionEncoder
from utils.motion_helper import PROCEDURAL, MotionBuckets

B = 8


@pytest.fixture(scope="module")
def controls(make_clips):
    """3 clips of 6 frames with flow, depth and segmentation."""
    return make_clips(num_samples=3, num_frames=6, num_tracks=2, controls=["depth", "segmentation"])


@pytest.fixture
def batch():
    return clip_batch(B) | {
        "control": torch.rand(B, F, CONTROL_CHANNELS, SIZE, SIZE) * 2 - 1,
    }


def loss_of(model, pipe, batch, *flags):
    encoder = ConditionEncoder(pipe.vae, pipe.image_encoder, pipe.feature_extractor)
    return script.controlnet_loss(model, batch, encoder, EDM(), arguments(script, "--control", "depth", *flags))


def test_the_network_sees_the_control_and_zeros_where_it_is_dropped(tiny_svd, batch):
    seen = Seen()
    loss_of(seen, tiny_svd, batch, "--control_dropout_prob", 0)
    assert torch.equal(seen.control, batch["control"])
    loss_of(seen, tiny_svd, batch, "--control_dropout_prob", 0.5)
    kept = seen.control.flatten(1).any(dim=1)
    assert 0 < kept.sum() < B
    assert torch.equal(seen.control[kept], batch["control"][kept])


def test_only_the_controlnet_learns(tiny_svd, batch):
    controlnet = ControlNetSVD.from_unet(tiny_svd.unet, CONTROL_CHANNELS, 4).train().requires_grad_(True)
    loss_of(ControlledUNet(tiny_svd.unet, controlnet), tiny_svd, batch).backward()
    assert all(layer.weight.grad.any() for layer in controlnet.controlnet_down_blocks)
    for module in (tiny_svd.unet, tiny_svd.vae, tiny_svd.image_encoder):
        assert all(parameter.grad is None for parameter in module.parameters())


@pytest.mark.parametrize("kind", ["depth", "segmentation", "flow", "edge"])
def test_a_control_of_each_kind_is_trained_and_its_name_is_kept(train, svd_base, controls, tmp_path, kind):
    train(script, tmp_path / "run", train_data_dir=controls, control=kind, max_train_steps=1)
    pipe = StableVideoDiffusionControlNetPipeline.from_pretrained(svd_base)
    pipe.load_controlnet(tmp_path / "run")
    assert pipe.controlnet.config.conditioning_type == kind
    assert pipe.controlnet.config.conditioning_channels == 3
    assert all(layer.weight.any() for layer in pipe.controlnet.controlnet_down_blocks)
    assert MotionBuckets.load(tmp_path / "run") == PROCEDURAL


@pytest.mark.parametrize("flags", [[], ["--cache_latents", "--clip_frames", 6]], ids=["clips", "cached"])
def test_a_resumed_run_equals_an_uninterrupted_one(train, controls, tmp_path, flags):
    flags = [*flags, "--frame_strides", 1, 2, "--random_reverse", "--random_flip", "--cache_dir", tmp_path / "cache"]
    flags += ["--checkpointing_steps", 1, "--checkpoints_total_limit", 1]
    known = {"train_data_dir": controls, "control": "segmentation"}
    train(script, tmp_path / "whole", *flags, **known)
    train(script, tmp_path / "parts", *flags, "--max_train_steps", 1, **known)
    train(script, tmp_path / "parts", *flags, "--resume_from_checkpoint", "latest", **known)
    whole, parts = (load_file(tmp_path / run / "checkpoint-2/trained.safetensors") for run in ("whole", "parts"))
    assert all(torch.equal(parts[name], value) for name, value in whole.items())
    assert all(name.startswith("controlnet.") for name in whole)


def test_clips_held_out_are_validated_on_and_shown_with_their_control(train, controls, tmp_path):
    flags = ["--held_out_clips", 1, "--validation_steps", 1]
    train(script, tmp_path / "run", *flags, train_data_dir=controls, control="edge")
    folder = tmp_path / "run/validation"
    assert Image.open(folder / "000002_samples.png").size == (F * SIZE, 3 * SIZE)
    lines = [json.loads(line) for line in (folder / "loss.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 1, 2]
    assert lines[0]["loss"] == lines[0]["base"]  # it starts at zero
    assert lines[1]["base"] == lines[0]["base"] != lines[1]["loss"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--control", "depth"], "has no depth; name its folder or video in metadata.jsonl as depth_file_name"),
        (["--control", "folder"], "has no control; name its folder or video"),
        (["--control", "flow", "--random_reverse"], "leave frame_strides and random_reverse out"),
        (["--control", "flow", "--cache_latents", "--frame_strides", 2], "leave frame_strides and random_reverse out"),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence(train, tmp_path, flags, message):
    with pytest.raises(ValueError, match=message):
        train(script, tmp_path / "run", *flags)
    assert not (tmp_path / "run").exists()


def test_a_controlnet_of_another_control_is_refused(train, tmp_path):
    flags = ["--controlnet_model_name_or_path", save_controlnet(tmp_path / "tracks"), "--control", "edge"]
    with pytest.raises(ValueError, match="reads an unnamed control of 8 channels, and edge have 3"):
        train(script, tmp_path / "run", *flags)
    train(script, tmp_path / "edge", "--control", "edge", "--max_train_steps", 1)
    with pytest.raises(ValueError, match="reads edge of 3 channels, and flow have 3"):
        train(script, tmp_path / "run", "--control", "flow", "--controlnet_model_name_or_path", tmp_path / "edge")
