"""Training of flow of a given video in one step: its loss, what it begins with, and its validation."""

import math

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from pipelines.flow_adapter import ESTIMATION, FlowAdapter
from pipelines.pipeline_stable_video_diffusion_joint import StableVideoDiffusionJointPipeline
from tests.small_trainings import SIZE, F, Seen, arguments
from tests.tiny_video_pipeline import tiny_video_pipeline
from train_models import train_svd_flow
from utils.diffusion.edm import EDM
from utils.diffusion.one_step import first_sigma
from utils.diffusion.svd_condition import ConditionEncoder
from utils.flow.code import FlowCode
from utils.latents import LatentScale
from utils.training.flow_losses import encode_flow, one_step_loss
from utils.weights.lora import LORA_FILE, add_lora, read_training, save_lora

B, CODE = 2, FlowCode(scale=LatentScale(0.1, 0.7))
FLAGS = ["--objective", "one_step"]


@pytest.fixture
def train_estimator(train):
    """train_estimator(output_dir, *flags, **values): two steps of a training of one step."""

    def run(output_dir, *more, **values):
        train(train_svd_flow, output_dir, *FLAGS, *more, num_inference_steps=None, **values)

    return run


def make_batch():
    video = torch.rand(B, F, 3, SIZE, SIZE) * 2 - 1
    flow = torch.randn(B, F - 1, 2, SIZE, SIZE) * 3
    given = {"fps": torch.full((B,), 7), "motion_bucket_id": torch.full((B,), 127)}
    return {"pixel_values": video, "flow_pixel_values": CODE.to_images(flow), "image": video[:, 0], **given}


def as_sampled(pipe):
    """Arguments and encoder of a training whose conditions are those of the pipeline."""
    noise = ["--noise_aug_mean", math.log(ESTIMATION.noise_aug_strength), "--noise_aug_std", 0]
    noise += ["--conditioning_dropout_prob", 0]
    encoder = ConditionEncoder(pipe.vae, pipe.image_encoder, pipe.feature_extractor)
    return arguments(train_svd_flow, *FLAGS, *noise), encoder


def test_the_loss_is_the_squared_error_of_what_the_pipeline_estimates(tmp_path):
    unet = tiny_video_pipeline().unet
    with torch.no_grad():
        for parameter in add_lora(unet, 2, None, "all"):
            parameter.normal_(std=0.1)
    save_lora(unet, tmp_path, training=CODE.to_training() | {"objective": "one_step"})
    pipe = StableVideoDiffusionJointPipeline(**tiny_video_pipeline().components)
    pipe.load_flow_adapter(tmp_path)
    args, encoder = as_sampled(pipe)
    batch, sigma = make_batch(), first_sigma(pipe.scheduler)
    with torch.no_grad():
        loss = one_step_loss(pipe.unet, batch, encoder, EDM(), CODE, args, sigma)
    pipe.set_progress_bar_config(disable=True)
    estimate = pipe(batch["image"], video=batch["pixel_values"], output_type="latent").flows
    error = (estimate - CODE.scale.normalize(encode_flow(batch, pipe.vae))).square().mean()
    torch.testing.assert_close(loss, error)


def test_the_network_sees_no_noise_and_all_frames():
    pipe = tiny_video_pipeline()
    args, encoder = as_sampled(pipe)
    unet, batch = Seen(), make_batch()
    one_step_loss(unet, batch, encoder, EDM(), CODE, args, 80.0).backward()
    noisy, frames = unet.inputs.chunk(2, dim=2)
    assert not noisy.any()
    modes = pipe.vae.encode(batch["pixel_values"].flatten(0, 1)).latent_dist.mode().unflatten(0, (B, F))
    torch.testing.assert_close(frames, modes)
    assert torch.allclose(unet.timestep, torch.tensor(80.0).log() / 4)


@pytest.mark.parametrize("kind", ["flow_video", "svd_flow"])
def test_a_run_begins_as_a_joint_adapter_or_a_lora_cut_to_its_rank(train_estimator, request, tmp_path, kind):
    folder = request.getfixturevalue(kind)
    begun = ["--init_adapter", folder, "--learning_rate", 0]
    train_estimator(tmp_path / "same", *begun)
    train_estimator(tmp_path / "cut", *begun, "--rank", 1)
    file, prefix = ("flow.safetensors", "y_lora.") if kind == "flow_video" else (LORA_FILE, "unet.")
    files = folder / file, tmp_path / "same" / LORA_FILE, tmp_path / "cut" / LORA_FILE
    first, same, cut = map(load_file, files)
    shared = [name.removeprefix("unet.") for name in same if prefix + name.removeprefix("unet.") in first]
    assert shared
    for name in shared:
        assert torch.equal(first[prefix + name], same[f"unet.{name}"])
    assert {len(value) for name, value in cut.items() if name.endswith("lora_A.weight")} == {1}
    training = read_training(tmp_path / "same")
    assert FlowAdapter.from_lora("flow", tmp_path / "same").one_step
    assert training["fixed_motion_bucket"] and training["conditioning_dropout_prob"] == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"rank": 3}, "has rank 2: pass --rank 2 instead of 3"),
        ({"max_flow": 8}, "--max_flow 8 and --flow_power .* pass 16"),
        ({"lora_alpha": 2}, "--init_adapter has a scale of its own"),
    ],
)
def test_what_contradicts_the_beginning_is_refused(train_estimator, flow_video, tmp_path, flags, message):
    with pytest.raises(ValueError, match=message):
        train_estimator(tmp_path / "out", "--init_adapter", flow_video, **flags)


def test_a_beginning_without_a_common_layer_is_refused(train_estimator, svd_flow, tmp_path):
    with pytest.raises(ValueError, match="has LoRAs on other layers than those that are trained"):
        train_estimator(tmp_path / "out", "--init_adapter", svd_flow, lora_targets="^conv_in$")


def test_flags_of_noise_levels_are_refused(train_estimator, tmp_path):
    with pytest.raises(ValueError, match="--sigma_mean applies to --objective denoising"):
        train_estimator(tmp_path / "out", "--sigma_mean", 1)


def test_estimates_of_held_out_clips_are_shown(train_estimator, tmp_path):
    train_estimator(tmp_path / "out", "--held_out_clips", 1, "--validation_steps", 2)
    assert Image.open(tmp_path / "out/validation/000002_samples.png").size == (F * SIZE, 3 * SIZE)


def estimator():
    pipe = StableVideoDiffusionJointPipeline(**tiny_video_pipeline().components)
    pipe.set_progress_bar_config(disable=True)
    pipe.flow_adapter = FlowAdapter("one_step", CODE, one_step=True)
    return pipe


def test_an_adapter_that_estimates_needs_a_video():
    with pytest.raises(ValueError, match="estimates the flow of a given video in one step: pass a video"):
        estimator()(torch.zeros(1, 3, 32, 32))


@pytest.mark.parametrize("unread", [{"num_inference_steps": 9}, {"weight": 0.5}, {"flow_strength": 0.5}])
def test_an_estimate_refuses_what_it_does_not_read_and_leaves_the_random_state(unread):
    pipe, video = estimator(), torch.zeros(1, F, 3, 32, 32)
    with pytest.raises(ValueError, match="estimates flow in one step and does not read"):
        pipe(video[:, 0], video=video, **unread)
    state = torch.get_rng_state()
    pipe(video[:, 0], video=video)
    assert torch.equal(torch.get_rng_state(), state)


def test_no_adapter_is_loaded_beside_one_that_estimates(flow_video):
    with pytest.raises(ValueError, match="This pipeline has the adapter one_step: load .* into another one"):
        estimator().load_flow_adapter(flow_video)
