"""Training of the ControlNet that moves points: the loss, and whole runs."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import train_models.train_trajectory as script
from models.svd_controlnet import ControlledUNet, ControlNetSVD
from pipelines.pipeline_stable_video_diffusion_controlnet import StableVideoDiffusionControlNetPipeline
from tests.small_trainings import SIZE, F, Seen, arguments, clip_batch
from tests.tiny_video_pipeline import tiny_video_pipeline
from train_models.train_trajectory import trajectory_loss
from utils.data.clip_geometry import ClipGeometry
from utils.data.points import PointChoice, Points
from utils.data.videos import VideoDataset
from utils.diffusion.edm import EDM
from utils.diffusion.svd_condition import ConditionEncoder
from utils.motion_helper import PROCEDURAL, MotionBuckets
from utils.tracks.control_map import CONTROL_CHANNELS, draw_control
from utils.tracks.heuristic_flow import move_image
from utils.training.svd import make_dataset, read_clips, read_held_out

B, K = 8, 2


@pytest.fixture
def batch():
    return clip_batch(B) | {
        "points": torch.rand(B, F, K, 2) * SIZE,
        "shown": torch.ones(B, F, K, dtype=torch.bool),
    }


def loss_of(model, pipe, batch, *flags):
    encoder = ConditionEncoder(pipe.vae, pipe.image_encoder, pipe.feature_extractor)
    return trajectory_loss(model, batch, encoder, EDM(), arguments(script, *flags))


def test_the_network_sees_the_control_of_the_points(tiny_svd, batch):
    seen = Seen()
    loss_of(seen, tiny_svd, batch, "--control_dropout_prob", 0)
    assert torch.equal(seen.control, draw_control(batch["points"], batch["shown"], (SIZE, SIZE)))


def test_the_network_is_conditioned_on_the_moved_image_unless_the_points_are_dropped(tiny_svd, batch):
    batch["points"][:, 0, 0] = SIZE / 2
    batch["points"][:, 1:, 0] = SIZE / 4
    seen, quiet = Seen(), ["--conditioning_dropout_prob", 0, "--noise_aug_mean", -20]
    loss_of(seen, tiny_svd, batch, "--control_dropout_prob", 0, *quiet)
    pictures = [move_image(*clip) for clip in zip(batch["points"], batch["shown"], batch["image"], strict=True)]
    expected = [tiny_svd.vae.encode(frames).latent_dist.mode() for frames in pictures]
    torch.testing.assert_close(seen.inputs[:, :, 4:], torch.stack(expected), atol=1e-4, rtol=1e-4)
    loss_of(seen, tiny_svd, batch, "--control_dropout_prob", 1, *quiet)
    torch.testing.assert_close(seen.inputs[:, :, 4:], seen.inputs[:, :, 4:][:, :1].expand_as(seen.inputs[:, :, 4:]))
    assert not torch.allclose(seen.inputs[:, :, 4:], torch.stack(expected), atol=1e-2)


def test_points_and_image_are_dropped_each_by_its_own_draw(tiny_svd, batch):
    seen, kept = Seen(), []
    for _ in range(8):
        loss_of(seen, tiny_svd, batch, "--control_dropout_prob", 0.5, "--conditioning_dropout_prob", 0.5)
        kept += list(
            zip(*(value.flatten(1).any(dim=1).tolist() for value in (seen.control, seen.embeddings)), strict=True)
        )
    assert set(kept) == {(False, False), (False, True), (True, False), (True, True)}


def test_only_the_controlnet_learns(tiny_svd, batch):
    controlnet = ControlNetSVD.from_unet(tiny_svd.unet, CONTROL_CHANNELS, 4).train().requires_grad_(True)
    model = ControlledUNet(tiny_svd.unet, controlnet)
    loss_of(model, tiny_svd, batch).backward()
    assert all(layer.weight.grad.any() for layer in controlnet.controlnet_down_blocks)
    for module in (tiny_svd.unet, tiny_svd.vae, tiny_svd.image_encoder):
        assert all(parameter.grad is None for parameter in module.parameters())


@pytest.mark.parametrize("flags", [[], ["--cache_latents", "--clip_frames", 6]], ids=["clips", "cached"])
def test_a_resumed_run_equals_an_uninterrupted_one_and_loads(train, svd_base, tmp_path, flags):
    flags = [*flags, "--frame_strides", 1, 2, "--random_reverse", "--random_flip", "--cache_dir", tmp_path / "cache"]
    flags += ["--checkpointing_steps", 1, "--checkpoints_total_limit", 1]
    train(script, tmp_path / "whole", *flags)
    train(script, tmp_path / "parts", *flags, "--max_train_steps", 1)
    train(script, tmp_path / "parts", *flags, "--resume_from_checkpoint", "latest")
    whole, parts = (load_file(tmp_path / run / "checkpoint-2/trained.safetensors") for run in ("whole", "parts"))
    assert all(torch.equal(parts[name], value) for name, value in whole.items())
    assert all(name.startswith("controlnet.") for name in whole)
    pipe = StableVideoDiffusionControlNetPipeline.from_pretrained(svd_base)
    pipe.load_controlnet(tmp_path / "whole")
    assert all(layer.weight.any() for layer in pipe.controlnet.controlnet_down_blocks)
    assert pipe.controlnet.controlnet_cond_embedding.conv_out.weight.any()
    assert MotionBuckets.load(tmp_path / "whole") == PROCEDURAL


def test_points_of_flow_are_trained_on_and_clips_held_out_are_validated_on(train, tmp_path):
    flags = ["--points_from", "flow", "--held_out_clips", 1, "--validation_steps", 1, "--use_ema"]
    train(script, tmp_path / "run", *flags)
    folder = tmp_path / "run/validation"
    assert Image.open(folder / "000002_samples.png").size == (F * 256, 2 * 256)
    lines = [json.loads(line) for line in (folder / "loss.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 1, 2]
    assert lines[0]["loss"] == pytest.approx(lines[0]["base"], rel=0.01)  # the picture is moved already
    assert lines[1]["base"] == lines[0]["base"] != lines[1]["loss"] != lines[0]["loss"]


def test_a_training_goes_on_with_a_controlnet(train, tmp_path):
    train(script, tmp_path / "first", "--max_train_steps", 1)
    flags = ["--controlnet_model_name_or_path", tmp_path / "first", "--learning_rate", 0, "--max_train_steps", 1]
    train(script, tmp_path / "second", *flags)
    first, second = (ControlNetSVD.from_pretrained(tmp_path / name).state_dict() for name in ("first", "second"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_clips_that_are_held_out_are_not_trained_on(clips):
    args = arguments(script, train_data_dir=clips, held_out_clips=1)
    extras = [Points(PointChoice())]
    whole = read_clips(args, extras)
    held_out = read_held_out(whole, PROCEDURAL, extras, args)
    assert len(make_dataset(whole, None, PROCEDURAL, extras, args)) == 2
    (sample,) = held_out
    last = VideoDataset(whole.records[2:], whole.options)
    assert torch.equal(sample["pixel_values"], last.sample(0, ClipGeometry(SIZE, SIZE))["pixel_values"])


@pytest.mark.parametrize(("source", "step"), [("tracks", 2), ("flow", 1)])
def test_clips_are_held_out_at_the_step_of_the_training_where_their_points_have_it(clips, source, step):
    flags = ["--points_from", source, "--cache_latents", "--frame_strides", 2, "--held_out_clips", 1]
    args = arguments(script, *flags, train_data_dir=clips)
    extras = [Points(PointChoice(), source)]
    whole = read_clips(args, extras)
    (sample,) = read_held_out(whole, PROCEDURAL, extras, args)
    everything = VideoDataset(whole.records[2:], replace(whole.options, num_frames=6, frame_strides=(1,)))
    frames = everything.sample(0, ClipGeometry(SIZE, SIZE))["pixel_values"]
    assert torch.equal(sample["pixel_values"], frames[: F * step : step])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--moving_share", 2], "moving_share 2"),
        (["--num_other_points", -1], "num_other_points -1"),
        (["--num_frames", 1], "--num_frames 1 is too few: pass 2 or more"),
        (["--clip_frames", 6], "clip_frames 6 needs --cache_latents"),
        (["--cache_latents", "--clip_frames", 2], "no room for a stretch of 3"),
        (["--validation_steps", 1], "needs --held_out_clips"),
        (["--held_out_clips", 3], "leaves none of 3 clips"),
        (["--height", 36], "multiples of 8"),
        (["--points_from", "flow", "--random_reverse"], "leave frame_strides and random_reverse out"),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence(train, tmp_path, flags, message):
    with pytest.raises(ValueError, match=message):
        train(script, tmp_path / "run", *flags)
    assert not (tmp_path / "run").exists()


def test_a_controlnet_of_another_control_is_refused(train, tmp_path):
    ControlNetSVD.from_unet(tiny_video_pipeline().unet, 3, 4).save_pretrained(tmp_path / "depth")
    with pytest.raises(ValueError, match="reads an unnamed control of 3 channels, and tracks have 8"):
        train(script, tmp_path / "run", "--controlnet_model_name_or_path", tmp_path / "depth")
