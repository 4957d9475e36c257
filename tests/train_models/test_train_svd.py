"""Fine-tuning of Stable Video Diffusion: the loss, with a test for each fault of public trainers, and whole runs."""

import json
import math
import shutil
from argparse import Namespace

import av
import pytest
import torch
from diffusers import StableVideoDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file

import train_models.train_svd as script
from tests.flags import flags as command_line
from tests.small_trainings import SIZE, VIDEO, F, Seen, arguments
from tests.two_processes import train_in_two
from train_models.train_svd import svd_loss
from utils.diffusion.edm import EDM
from utils.diffusion.sampling import SAMPLING_FILE, model_sampling
from utils.diffusion.svd_condition import ConditionEncoder
from utils.flow.consistency import flow_consistency
from utils.motion_helper import PROCEDURAL, MotionBuckets
from utils.training.svd import read_clips, read_held_out
from utils.training.svd_losses import encode_clips
from utils.weights.lora import LORA_FILE, load_lora

B = 3


@pytest.fixture
def seen(tiny_svd, monkeypatch):
    """One step: what the UNet saw, the batch, and all that the encoder of latents was given."""
    torch.manual_seed(0)
    frames = torch.rand(B, F, 3, SIZE, SIZE) * 2 - 1
    batch = {
        "pixel_values": frames,
        "image": frames[:, 0],
        "fps": torch.tensor([7.0, 8.0, 3.5]),
        "motion_bucket_id": torch.tensor([10, 127, 255]),
    }
    encoded = []
    encode = tiny_svd.vae.encode
    monkeypatch.setattr(tiny_svd.vae, "encode", lambda pixels: encoded.append(pixels) or encode(pixels))
    encoder = ConditionEncoder(tiny_svd.vae, tiny_svd.image_encoder, tiny_svd.feature_extractor)
    unet = Seen()
    loss = svd_loss(unet, batch, encoder, EDM(), arguments(script, "--conditioning_dropout_prob", 0))
    return Namespace(unet=unet, batch=batch, encoded=encoded, pipe=tiny_svd, loss=loss)


def test_the_autoencoder_sees_pixels_around_zero_and_not_from_zero_to_one(seen):
    frames = seen.encoded[0]
    assert torch.equal(frames, seen.batch["pixel_values"].flatten(0, 1)[: len(frames)])
    assert frames.min() < -0.9


def test_the_noisy_latents_are_scaled_and_the_condition_is_not(seen):
    assert seen.pipe.vae.config.scaling_factor == 0.5
    noisy_image = seen.encoded[-1]
    expected = seen.pipe.vae.encode(noisy_image).latent_dist.mode()
    torch.testing.assert_close(seen.unet.inputs[:, :, 4:], expected[:, None].expand(-1, F, -1, -1, -1))
    latents = encode_clips(seen.batch, seen.pipe.vae)
    posterior = seen.pipe.vae.encode(seen.batch["pixel_values"].flatten(0, 1)[:8]).latent_dist
    torch.testing.assert_close(latents.flatten(0, 1)[:8], posterior.mode() * 0.5)


def test_the_condition_and_the_target_are_the_mode_of_the_posterior(seen):
    again = [encode_clips(seen.batch, seen.pipe.vae) for _ in range(2)]
    assert torch.equal(*again)
    encoder = ConditionEncoder(seen.pipe.vae, seen.pipe.image_encoder, seen.pipe.feature_extractor)
    conditions = [encoder(seen.batch["image"], F, 7, 127, 0.0).image_latents for _ in range(2)]
    assert torch.equal(*conditions)


def test_ids_are_rate_less_one_then_bucket_then_noise_of_the_image(seen):
    ids = seen.unet.ids
    assert ids[:, 0].tolist() == [6.0, 7.0, 2.5]
    assert ids[:, 1].tolist() == [10.0, 127.0, 255.0]
    noise = (seen.encoded[-1] - seen.batch["image"]).flatten(1).std(dim=1)
    torch.testing.assert_close(noise, ids[:, 2], rtol=0.05, atol=0)


def test_each_clip_has_its_own_noise_level_and_its_own_noise_on_the_image(seen):
    assert len(set(seen.unet.timestep.tolist())) == B
    assert len(set(seen.unet.ids[:, 2].tolist())) == B


def test_clip_sees_the_clean_image(seen):
    encoder = ConditionEncoder(seen.pipe.vae, seen.pipe.image_encoder, seen.pipe.feature_extractor)
    torch.testing.assert_close(seen.unet.embeddings, encoder.embed(seen.batch["image"]))
    assert seen.unet.embeddings.ndim == 3


def test_the_noise_on_the_image_is_not_that_of_the_diffusion(tiny_svd, monkeypatch):
    drawn = []
    real = torch.randn_like
    monkeypatch.setattr(torch, "randn_like", lambda x, **kw: drawn.append(real(x, **kw)) or drawn[-1])
    frames = torch.zeros(1, F, 3, SIZE, SIZE)
    batch = {"latents": torch.zeros(1, F, 4, 8, 8), "image": frames[:, 0], "fps": torch.tensor([7.0])}
    encoder = ConditionEncoder(tiny_svd.vae, tiny_svd.image_encoder, tiny_svd.feature_extractor)
    svd_loss(Seen(), batch | {"motion_bucket_id": torch.tensor([0])}, encoder, EDM(), arguments(script))
    assert [tuple(noise.shape) for noise in drawn] == [(1, 3, SIZE, SIZE), (1, F, 4, 8, 8)]
    for frame in drawn[1][0]:
        start = drawn[0].flatten()[: frame.numel()]
        assert torch.corrcoef(torch.stack([start, frame.flatten()]))[0, 1].abs() < 0.3


def test_dropping_takes_the_image_away_and_leaves_the_ids(tiny_svd):
    batch = {
        "latents": torch.zeros(2, F, 4, 8, 8),
        "image": torch.zeros(2, 3, SIZE, SIZE),
        "fps": torch.tensor([8.0, 8.0]),
    }
    encoder = ConditionEncoder(tiny_svd.vae, tiny_svd.image_encoder, tiny_svd.feature_extractor)
    unet = Seen()
    flags = arguments(script, "--conditioning_dropout_prob", 1)
    svd_loss(unet, batch | {"motion_bucket_id": torch.tensor([9, 9])}, encoder, EDM(), flags)
    assert not unet.inputs[:, :, 4:].any() and not unet.embeddings.any()
    assert unet.ids[:, :2].tolist() == [[7.0, 9.0]] * 2


def test_each_clip_is_dropped_by_its_own_draw(tiny_svd):
    torch.manual_seed(0)
    N = 16
    batch = {"latents": torch.zeros(N, F, 4, 8, 8), "image": torch.rand(N, 3, SIZE, SIZE), "fps": torch.full((N,), 8.0)}
    encoder = ConditionEncoder(tiny_svd.vae, tiny_svd.image_encoder, tiny_svd.feature_extractor)
    unet, flags = Seen(), arguments(script, "--conditioning_dropout_prob", 0.5)
    svd_loss(unet, batch | {"motion_bucket_id": torch.full((N,), 9)}, encoder, EDM(), flags)
    assert 0 < unet.embeddings.flatten(1).any(dim=1).sum() < N


@pytest.mark.parametrize("sigma", [0.5, 3.0])
def test_the_flow_loss_is_weighed_and_counts_less_at_high_noise(seen, sigma):
    encoder = ConditionEncoder(seen.pipe.vae, seen.pipe.image_encoder, seen.pipe.feature_extractor)
    edm, unet = EDM(math.log(sigma), 0.0), Seen()
    flow = {"flow": torch.zeros(B, F - 1, 2, SIZE, SIZE), "visible": torch.ones(B, F - 1, SIZE, SIZE, dtype=torch.bool)}
    batch = seen.batch | {"latents": torch.randn(B, F, 4, 8, 8)} | flow

    def loss(weight):
        torch.manual_seed(0)
        return svd_loss(unet, batch, encoder, edm, arguments(script, "--flow_consistency_weight", weight))

    plain, (total, scalars) = loss(0), loss(2)
    estimate = unet.inputs[:, :, :4] / math.sqrt(sigma**2 + 1)  # of a network that predicts v = 0
    expected = flow_consistency(estimate, batch["flow"], batch["visible"]).mean() / (1 + sigma**2)
    torch.testing.assert_close(scalars["flow_consistency"], expected)
    torch.testing.assert_close(total - plain, 2 * expected, rtol=1e-4, atol=1e-6)


def test_temporal_training_changes_the_temporal_parameters_alone(train, svd_base, tmp_path):
    train(script, tmp_path / "run", "--trainable", "temporal")
    before = StableVideoDiffusionPipeline.from_pretrained(svd_base)
    after = StableVideoDiffusionPipeline.from_pretrained(tmp_path / "run")
    old, new = before.unet.half().float().state_dict(), after.unet.float().state_dict()
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    temporal = {n for n in old if any(part in n for part in ("temporal", "time_mixer", "time_pos_embed"))}
    assert changed <= temporal
    assert {name.split(".")[-1] for name in changed} >= {"weight", "bias", "mix_factor"}
    assert len(changed) > 0.8 * len(temporal)
    assert MotionBuckets.load(tmp_path / "run") == PROCEDURAL


def test_a_pattern_chooses_parameters_and_the_bases_own_sampling_stays(train, svd_base, tmp_path):
    base = shutil.copytree(svd_base, tmp_path / "base")
    (base / SAMPLING_FILE).write_text('{"solver_order": 2}')
    flags = ["--trainable", "regex", "--trainable_pattern", "^conv_out", "--use_ema"]
    train(script, tmp_path / "run", *flags, pretrained_model_name_or_path=base)
    before = StableVideoDiffusionPipeline.from_pretrained(base).unet.half().float().state_dict()
    after = StableVideoDiffusionPipeline.from_pretrained(tmp_path / "run").unet.float().state_dict()
    assert {n for n in before if not torch.equal(before[n], after[n])} == {"conv_out.weight", "conv_out.bias"}
    assert model_sampling(tmp_path / "run") == {"solver_order": 2}


def test_a_lora_is_one_file_that_loads_and_says_what_it_was_made_from(train, svd_base, clips, tmp_path):
    flags = ["--trainable", "lora", "--lora_alpha", 4, "--validation_data_dir", clips, "--num_validation_samples", 2]
    train(script, tmp_path / "run", *flags, "--validation_steps", 1)
    unet = StableVideoDiffusionPipeline.from_pretrained(svd_base).unet
    load_lora(unet, tmp_path / "run")
    assert unet.peft_config["default"].lora_alpha == 4
    assert any(
        value.abs().max() > 0 for name, value in load_file(tmp_path / "run" / LORA_FILE).items() if "lora_B" in name
    )
    folder = tmp_path / "run/validation"
    assert Image.open(folder / "000002_samples.png").size == (F * SIZE, 4 * SIZE)
    with av.open(folder / "000002_1.mp4") as video:
        frames = list(video.decode(video=0))
        assert (len(frames), frames[0].width, frames[0].height) == (F, 2 * SIZE, SIZE)
    lines = [json.loads(line) for line in (folder / "loss.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 1, 2]
    assert len({line["loss"] for line in lines}) == 3


@pytest.mark.parametrize(
    "flags",
    [
        ["--trainable", "lora"],
        ["--trainable", "lora", "--cache_latents", "--flow_consistency_weight", 1],
        ["--random_flip"],
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one(train, clips, tmp_path, flags):
    flags = [*flags, "--frame_strides", 1, 1, "--random_reverse", "--cache_dir", tmp_path / "cache"]
    train(script, tmp_path / "whole", *flags, "--max_train_steps", 3)
    train(script, tmp_path / "parts", *flags, "--max_train_steps", 1)
    again = ["--max_train_steps", 3, "--resume_from_checkpoint", "latest", "--validation_data_dir", clips]
    train(script, tmp_path / "parts", *flags, *again)
    whole, parts = (load_file(tmp_path / run / "checkpoint-3/trained.safetensors") for run in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(parts[name], value) for name, value in whole.items())


def test_two_processes_agree_on_the_weights(svd_base, clips, tmp_path):
    """Their gradients are synchronised, under checkpointing and with dropped conditions too."""
    named = {
        "pretrained_model_name": svd_base,
        "dataset_dir": clips,
        "output_dir": tmp_path / "run",
        **VIDEO,
        "rank": 2,
    }
    named |= {"trainable": "lora", "cache_dir": tmp_path / "cache", "validation_data_dir": clips}
    command = command_line("--cache_latents", **named | {"train_batch_size": 1, "conditioning_dropout_prob": 0.5})
    first, second = train_in_two(tmp_path, script.__name__, "utils.training.svd", command)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert any(parameter.abs().max() > 0 for parameter in first)
    assert load_file(tmp_path / "run" / LORA_FILE)


def test_checkpointing_is_on_by_default_and_gives_equal_gradients(tiny_svd):
    assert arguments(script).gradient_checkpointing
    assert not arguments(script, "--no-gradient_checkpointing").gradient_checkpointing
    encoder = ConditionEncoder(tiny_svd.vae, tiny_svd.image_encoder, tiny_svd.feature_extractor)
    unet = tiny_svd.unet.train()
    parameters = script.choose_parameters(unet, "temporal")
    for parameter in parameters:
        parameter.requires_grad_(True)
    torch.manual_seed(0)
    batch = {"latents": torch.randn(1, F, 4, 8, 8), "image": torch.rand(1, 3, SIZE, SIZE), "fps": torch.tensor([8.0])}
    batch["motion_bucket_id"] = torch.tensor([5])

    def gradients():
        torch.manual_seed(1)
        return torch.autograd.grad(svd_loss(unet, batch, encoder, EDM(), arguments(script)), parameters)

    plain = gradients()
    unet.enable_gradient_checkpointing()
    for a, b in zip(plain, gradients(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)
    assert any(gradient.abs().max() > 0 for gradient in plain)


def test_frames_that_are_held_out_are_validated_on_and_not_trained_on(clips):
    known = {"train_data_dir": clips, "num_frames": 2, "held_out_frames": 3, "num_validation_samples": 2}
    args = arguments(script, "--random_flip", **known, height=64, width=64)
    whole = read_clips(args)
    shown = read_held_out(whole, PROCEDURAL, [], args)
    assert len(shown) == 2 and len(whole) == 3
    assert whole.options.held_out_frames == 3
    assert torch.equal(shown[1]["pixel_values"], whole.held_out(1)["pixel_values"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--trainable", "regex"], "belong together"),
        (["--trainable_pattern", "x"], "belong together"),
        (["--num_frames", 1], "--num_frames 1 is too few: pass 2 or more"),
        (["--held_out_frames", 2], "no room for a stretch of 3"),
        (["--held_out_frames", 4, "--validation_data_dir", "x"], "choose one"),
        (["--clip_frames", 6], "clip_frames 6 needs --cache_latents"),
        (["--height", 36], "multiples of 8"),
        (["--trainable", "lora", "--lora_targets", "nowhere"], "No layer is called"),
        (["--trainable", "regex", "--trainable_pattern", "nowhere"], "No parameter"),
        (["--num_frames", 9], "has 6 frames and 9 are needed"),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence(train, tmp_path, flags, message):
    with pytest.raises(ValueError, match=message):
        train(script, tmp_path / "run", *flags)
    assert not (tmp_path / "run").exists()


def test_a_base_without_a_map_of_motion_asks_for_one(train, clips, tmp_path):
    with pytest.raises(FileNotFoundError, match="--fixed_motion_bucket"):
        train(script, tmp_path / "run", pretrained_model_name_or_path=tmp_path / "nothing")
