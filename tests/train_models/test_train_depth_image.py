"""Training of a joint adapter: the loss row by row, and whole runs on a tiny random Stable Diffusion."""

import json
from types import SimpleNamespace

import pytest
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from PIL import Image
from safetensors.torch import load_file
from torch import nn

import patch
import run_models.run_depth_image as run_script
import train_models.train_depth_image as script
from tests.flags import flags as command_line
from tests.small_trainings import IMAGE
from tests.tiny_pipeline import tiny_models
from tests.two_processes import train_in_two
from train_models.train_depth_image import draw_timesteps, joint_loss
from utils.diffusion.pairs import draw_direction
from utils.latents import LatentScale
from utils.training.sd import SDBase, draw_prompts

B, SIZE = 6, IMAGE["resolution"]


def arguments(*flags):
    return script.make_parser().parse_args(command_line(*flags, train_data_dir="d", output_dir="o"))


def test_a_run_writes_an_adapter_whose_header_says_how_to_use_it(train_images, folders, tmp_path):
    train_images(script, tmp_path / "run", "--lora_alpha", 4, "--validation_prompts", "a cube", "a cone")
    path = tmp_path / "run/depth.safetensors"
    config = patch.read_config(path)
    assert (config["rank"], config["alpha"], config["base_model"]) == (2, 4, str(folders.model))
    assert config["training"]["trigger"] == "depth_map"
    assert config["training"]["latent_scale"]["std"] > 0
    assert config["training"]["max_train_steps"] == 2
    assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float16}
    unet = UNet2DConditionModel.from_pretrained(folders.model, subfolder="unet")
    patch.load(unet, path)
    assert any(p.abs().max() > 0 for name, p in unet.named_parameters() if "joint_post" in name)
    assert Image.open(tmp_path / "run/validation/000002_pairs.png").size == (2 * SIZE, 2 * SIZE)


def test_validation_shows_samples_with_their_estimated_condition(train_images, scenes, tmp_path):
    flags = ["--condition", "edge", "--adapter_name", "lines", "--validation_data_dir", scenes]
    train_images(script, tmp_path / "run", *flags, "--num_validation_samples", 2, "--max_train_steps", 1)
    assert Image.open(tmp_path / "run/validation/000001_samples.png").size == (5 * SIZE, 2 * SIZE)
    assert patch.read_config(tmp_path / "run/lines.safetensors")["training"]["trigger"] == "edge_map"


@pytest.fixture
def outlines(scenes, tmp_path):
    """The scenes, each paired with an image of colours under the name outlines."""
    rows = [json.loads(line) for line in (scenes / "metadata.jsonl").read_text().splitlines()]
    rows = [
        {"file_name": f"{scenes / row['file_name']}", "outlines_file_name": f"{i}.png"} for i, row in enumerate(rows)
    ]
    for i, row in enumerate(rows):
        Image.new("RGB", (64, 64), (30 * i, 90, 10)).save(tmp_path / row["outlines_file_name"])
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_a_pair_of_ones_own_needs_no_code(train_images, outlines, folders, tmp_path):
    flags = {"train_data_dir": outlines, "validation_data_dir": outlines, "num_validation_samples": 1}
    train_images(script, tmp_path / "run", "--condition", "outlines", max_train_steps=1, **flags)
    assert patch.read_config(tmp_path / "run/outlines.safetensors")["training"]["trigger"] == "outlines_map"
    given = ["--mode", "depth_to_image", "--condition", f"outlines={outlines / '3.png'}", "--num_inference_steps", "1"]
    given += ["--pretrained_model_name_or_path", str(folders.model), "--height", "32", "--width", "32"]
    run_script.main(
        [*given, "--adapter", str(tmp_path / "run/outlines.safetensors"), "--output_dir", str(tmp_path / "o")]
    )
    assert Image.open(tmp_path / "o/00_outlines.png").getpixel((5, 5)) == (90, 90, 10)
    assert not (tmp_path / "o/00_outlines_16bit.png").exists()


@pytest.mark.parametrize("cached", [False, True])
def test_a_resumed_run_equals_an_uninterrupted_one_whatever_was_validated(train_images, tmp_path, monkeypatch, cached):
    flags = ["--cache_latents", "--cache_dir", tmp_path / "cache"] if cached else []
    long = ["--max_train_steps", 4]
    train_images(script, tmp_path / "whole", *flags, *long)
    train_images(script, tmp_path / "cut", *flags, "--validation_prompts", "a cube", "--validation_steps", 1)
    monkeypatch.setattr(script, "measure_latent_scale", None)  # the scale is the checkpoint's
    train_images(script, tmp_path / "cut", *flags, *long, "--resume_from_checkpoint", "latest")
    whole, cut = (load_file(tmp_path / run / "depth.safetensors") for run in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    assert all(torch.equal(whole[key], cut[key]) for key in whole)


def test_a_cached_run_calls_neither_autoencoder_nor_text_encoder_in_its_steps(train_images, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("an encoder was called")

    fit = script.fit

    def fit_without_encoders(*args, frozen, **kwargs):
        vae, text_encoder = frozen
        vae.encode = text_encoder.forward = refuse
        fit(*args, frozen=frozen, **kwargs)

    monkeypatch.setattr(script, "fit", fit_without_encoders)
    train_images(script, tmp_path / "run", "--cache_latents", "--cache_dir", tmp_path / "cache")
    assert (tmp_path / "run/depth.safetensors").is_file()


@pytest.mark.parametrize(
    "flags",
    [
        ["--post", "conv"],
        ["--post", "conv_fuse"],
        ["--post", "aligned"],
        ["--gradient_checkpointing"],
        [
            "--mixed_precision",
            "bf16",
            "--channels_last",
            "--use_ema",
            "--noise_offset",
            "0.1",
            "--validation_prompts",
            "a cube",
        ],
    ],
)
def test_every_form_of_the_adapter_trains(train_images, tmp_path, flags):
    train_images(script, tmp_path / "run", *flags)
    tensors = load_file(tmp_path / "run/depth.safetensors")
    assert any(t.abs().max() > 0 for key, t in tensors.items() if key.startswith("post"))


class Recorder(nn.Module):
    """Stands in for the prepared network: keeps what it was asked, answers `answer`."""

    def __init__(self, answer=0.0):
        super().__init__()
        self.answer = nn.Parameter(torch.tensor(answer))

    def forward(self, noisy, t, text):
        self.noisy, self.t = noisy, t
        self.rows = (torch.zeros_like(noisy) + self.answer).requires_grad_()
        self.rows.retain_grad()
        return SimpleNamespace(sample=self.rows)


def loss_of(folder, *flags, seed=0):
    """Recorder, normalised clean latents (2 B, ...), pairs and loss of one batch."""
    unet = tiny_models(folder)["unet"]
    patch.add_joint(unet, "depth", rank=2)
    torch.manual_seed(seed)
    args = arguments(*flags)
    args.adapter_name, args.trigger_word = "depth", "depth_map"
    batch = {name: torch.randn(B, 4, 8, 8) for name in ("latents", "conditioning_latents")} | {
        "caption": ["a cube"] * B
    }
    vae = SimpleNamespace(config=SimpleNamespace(scaling_factor=1.0), dtype=torch.float32)
    scheduler = DDPMScheduler(prediction_type="v_prediction")
    base = SDBase(vae, unet, scheduler, lambda texts, device: None)
    scale, recorder = LatentScale(0.5, 2.0), Recorder()
    loss = joint_loss(recorder, batch, base, scale, args)
    clean = torch.cat([batch["latents"], scale.normalize(batch["conditioning_latents"])])
    return recorder, clean, patch.get_pairs(unet), loss


@pytest.mark.parametrize(
    ("flag", "given"), [("--clean_image_share", range(B)), ("--clean_condition_share", range(B, 2 * B))]
)
def test_a_given_side_has_no_noise_and_no_loss(tmp_path, flag, given):
    other = {"--clean_image_share": "--clean_condition_share"}.get(flag, "--clean_image_share")
    recorder, clean, pairs, loss = loss_of(tmp_path, "--one_way_share", 0, flag, 1, other, 0)
    loss.backward()
    given, free = list(given), [row for row in range(2 * B) if row not in given]
    assert {pair.direction for pair in pairs} == {"both"}
    assert torch.equal(recorder.noisy[given], clean[given])
    assert (recorder.t[given] == 0).all()
    assert recorder.rows.grad[given].abs().max() == 0
    assert (recorder.t[free] > 0).all()
    assert (recorder.rows.grad[free].flatten(1).abs().amax(1) > 0).all()


def test_with_one_direction_the_side_that_is_read_is_given(tmp_path):
    seen = set()
    for seed in range(8):
        recorder, clean, pairs, _ = loss_of(tmp_path, "--one_way_share", 1, seed=seed)
        direction = pairs[0].direction
        given = slice(B, None) if direction == "x_reads_y" else slice(0, B)
        assert {pair.direction for pair in pairs} == {direction}
        assert torch.equal(recorder.noisy[given], clean[given])
        seen.add(direction)
    assert seen == {"x_reads_y", "y_reads_x"}


def test_directions_and_noise_levels_come_in_the_shares_asked_for():
    torch.manual_seed(0)
    args = arguments("--one_way_share", 0.4, "--equal_noise_share", 0.25)
    directions = [draw_direction(args) for _ in range(4000)]
    for direction, share in (("both", 0.6), ("x_reads_y", 0.2), ("y_reads_x", 0.2)):
        assert directions.count(direction) / 4000 == pytest.approx(share, abs=0.03)
    t_x, t_y = draw_timesteps(4000, "both", 1000, args)
    free = (t_x > 0) & (t_y > 0)
    assert float((t_x == 0).float().mean()) == pytest.approx(0.2, abs=0.03)
    assert float((t_y == 0).float().mean()) == pytest.approx(0.2, abs=0.03)
    assert not ((t_x == 0) & (t_y == 0)).any()
    assert float((t_x == t_y)[free].float().mean()) == pytest.approx(0.25, abs=0.03)


def test_prompts_are_dropped_per_side_and_the_condition_keeps_its_trigger():
    torch.manual_seed(0)
    args = arguments()
    args.trigger_word = "depth_map"
    texts = draw_prompts(["a cube"] * 4000, args)
    pairs = list(zip(texts[:4000], texts[4000:], strict=True))
    shares = {
        ("", "depth_map, a cube"): 0.1,
        ("a cube", "depth_map"): 0.1,
        ("", "depth_map"): 0.1,
        ("a cube", "depth_map, a cube"): 0.7,
    }
    assert set(pairs) == set(shares)
    for pair, share in shares.items():
        assert pairs.count(pair) / 4000 == pytest.approx(share, abs=0.03)


def test_a_folder_without_metadata_is_refused(train_images, tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(FileNotFoundError, match=r"metadata\.jsonl"):
        train_images(script, tmp_path / "run", train_data_dir=tmp_path / "data")


def test_a_base_that_is_not_there_is_refused_in_one_sentence(train_images, scenes, tmp_path):
    missing = FileNotFoundError, "neither a model folder nor one on the hub"
    for name, (kind, message) in {
        tmp_path / "missing": missing, "nobody/nothing": missing, scenes: (ValueError, "a folder without a model"),
    }.items():  # fmt: skip
        with pytest.raises(kind, match=message) as caught:
            train_images(script, tmp_path / "run", pretrained_model_name_or_path=name)
        assert "\n" not in str(caught.value)


def test_the_resolution_is_by_default_that_of_the_base(train_images, tmp_path):
    for flags, size in (([], SIZE), (["--resolution", 16], 16)):
        train_images(script, tmp_path / str(size), *flags, resolution=None, validation_prompts="a cube")
        assert json.loads((tmp_path / str(size) / "args.json").read_text())["resolution"] == size
        assert Image.open(tmp_path / str(size) / "validation/000002_pairs.png").size == (2 * size, size)


def test_a_resolution_that_the_base_cannot_take_is_refused(train_images, tmp_path):
    with pytest.raises(ValueError, match="--resolution 17 does not divide by the base's 4"):
        train_images(script, tmp_path / "run", "--resolution", 17)


def test_two_processes_train_one_adapter(folders, scenes, tmp_path):
    """Also where the cache asks for the processes before the loop does."""
    named = {"pretrained_model_name_or_path": folders.model, "train_data_dir": scenes, "output_dir": tmp_path / "run"}
    more = {"cache_dir": tmp_path / "cache", "logging_steps": 1}
    command = command_line("--cache_latents", **named | IMAGE | more)
    first, second = train_in_two(tmp_path, script.__name__, script.__name__, command)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert any(parameter.abs().max() > 0 for parameter in first)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert load_file(tmp_path / "run" / "depth.safetensors")


def test_an_output_folder_with_content_is_refused_and_kept(train_images, tmp_path):
    (tmp_path / "depth.safetensors").write_text("mine")
    with pytest.raises(FileExistsError):
        train_images(script, tmp_path)
    assert (tmp_path / "depth.safetensors").read_text() == "mine"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--one_way_share", 1.5], "--one_way_share is 1.5"),
        (["--clean_image_share", 0.7, "--clean_condition_share", 0.7], "add up to 1.4"),
        (["--drop_both_prompts", 0.9], "add up to 1.1"),
    ],
)
def test_impossible_shares_are_refused_before_anything_is_read(train_images, tmp_path, flags, message):
    with pytest.raises(ValueError, match=message):
        train_images(script, tmp_path / "run", *flags, train_data_dir="missing")
