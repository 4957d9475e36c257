"""Training of TRIP on text to video: its loss, its prompts, the flags that it refuses, and whole runs."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import utils.training.svd as recipe
from models.trip import TripFusion
from models.trip_text import TextDenoiser, TripTextUNet
from pipelines.pipeline_trip_text import TextToVideoTripPipeline
from tests.flags import flags
from tests.tiny_text_video import tiny_text_video
from tests.two_processes import train_in_two
from train_models.train_trip import main, make_parser, text_loss
from utils.data.clip_latents import CachedClips
from utils.diffusion.prompts import TextEncoder
from utils.training.text_video import SVD_FLAGS, drop_captions

F, SIZE = 4, 32


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Folder of a text to video base."""
    folder = tmp_path_factory.mktemp("text_video")
    tiny_text_video(folder / "words").save_pretrained(folder / "base")
    return folder / "base"


@pytest.fixture(scope="module")
def annotations(make_clips, tmp_path_factory):
    """A JSON list of {"video_path", "text"}."""
    clips = make_clips(num_samples=3, num_frames=6, num_tracks=2)
    rows = [json.loads(line) for line in (clips / "metadata.jsonl").read_text().splitlines()]
    texts = ["a cube", "two cubes", "zzz"]
    found = [
        {"video_path": str(clips / row["video_folder"]), "text": text, "fps": row["fps"]}
        for row, text in zip(rows, texts, strict=True)
    ]
    path = tmp_path_factory.mktemp("annotations") / "clips.json"
    path.write_text(json.dumps(found))
    return path


@pytest.fixture
def given(base, annotations, tmp_path):
    """Flags of a run, as a function of what differs."""

    def of(*more, **values):
        known = {
            "pretrained_model_name": base, "train_data_dir": annotations, "output_dir": tmp_path / "run",
            "num_frames": F, "train_batch_size": 2, "max_train_steps": 2, "learning_rate": 1e-3,
            "fusion_learning_rate": 1e-2, "fusion_width": 16, "num_inference_steps": 2,
        }  # fmt: skip
        return flags("--no-gradient_checkpointing", *more, **known | values)

    return of


def test_a_run_trains_samples_and_validates(given, base, annotations, tmp_path):
    main(given(validation_data_dir=annotations, num_validation_samples=1, height=SIZE, width=SIZE))
    pipe = TextToVideoTripPipeline.from_pretrained(tmp_path / "run", dtype=torch.float32)
    before = TextToVideoTripPipeline.from_pretrained(base)
    assert pipe.fusion.config.form == "fusion" and pipe.fusion.temporal.out.weight.any()
    moved = [
        not torch.equal(a.half(), b.half())
        for a, b in zip(before.unet.parameters(), pipe.unet.parameters(), strict=True)
    ]
    assert sum(moved) > len(moved) / 2
    for name in ("vae", "text_encoder"):
        pairs = zip(getattr(before, name).parameters(), getattr(pipe, name).parameters(), strict=True)
        assert all(torch.equal(a.half(), b.half()) for a, b in pairs)
    lines = [json.loads(line) for line in (tmp_path / "run/validation/loss.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 2] and lines[0]["loss"] != lines[1]["loss"]
    assert (tmp_path / "run/validation/000002_samples.png").is_file()


def test_a_resumed_run_on_cached_latents_equals_an_uninterrupted_one(given, tmp_path):
    more = {"cache_dir": tmp_path / "cache", "fusion_only_steps": 1, "height": SIZE, "width": SIZE}
    main(given("--cache_latents", **more, output_dir=tmp_path / "whole", max_train_steps=3))
    main(given("--cache_latents", **more, max_train_steps=1))
    main(given("--cache_latents", **more, max_train_steps=3, resume_from_checkpoint="latest"))
    whole, parts = (load_file(tmp_path / run / "checkpoint-3/trained.safetensors") for run in ("whole", "run"))
    assert whole.keys() == parts.keys() and all(torch.equal(parts[name], value) for name, value in whole.items())
    assert any(name.startswith("unet.") for name in whole)


def test_the_captions_of_cached_clips_are_read_anew(given, annotations, tmp_path, monkeypatch):
    """An annotation that was changed after the latents were encoded counts."""
    rows, seen = json.loads(annotations.read_text()), []
    path, encode = tmp_path / "changed.json", TextEncoder.encode
    monkeypatch.setattr(TextEncoder, "encode", lambda self, texts: seen.extend(texts) or encode(self, texts))
    for text in ("before", "after"):
        path.write_text(json.dumps([row | {"text": text} for row in rows]))
        main(given(
            "--cache_latents", "--overwrite", train_data_dir=path, cache_dir=tmp_path / "cache", max_train_steps=1,
            conditioning_dropout_prob=0, height=SIZE, width=SIZE,
        ))  # fmt: skip
    assert seen == ["before"] * 2 + ["after"] * 2
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_each_clip_keeps_its_own_caption(tmp_path):
    class Record:
        def __init__(self, text):
            self.read_caption = lambda: text

    for name, shape in (("latents", (4, 3, 2, 4, 2, 2)), ("frames", (4, 3, 8, 8, 3)), ("fps", (4,)), ("scores", (4,))):
        np.save(tmp_path / f"{name}.npy", np.ones(shape, np.uint8 if name == "frames" else np.float32))
    (tmp_path / "about.json").write_text('{"flips": 2}')
    from utils.data.clip_latents import Stretches
    from utils.motion_helper import PROCEDURAL

    clips = CachedClips(tmp_path, Stretches(2), PROCEDURAL, records=[Record("a"), Record("b")])
    assert [clips[k % 2]["caption"] for k in range(4)] == ["a", "b", "a", "b"]
    assert "caption" not in CachedClips(tmp_path, Stretches(2), PROCEDURAL)[0]


def test_the_loss_reads_the_prompts_and_starts_as_the_linear_form(base):
    pipe = TextToVideoTripPipeline.from_pretrained(base)
    text, args = (
        TextEncoder(pipe.tokenizer, pipe.text_encoder),
        make_parser().parse_args(["--train_data_dir", "d", "--output_dir", "o", "--conditioning_dropout_prob", "0"]),
    )
    frames = torch.rand(2, F, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def loss(form, captions):
        denoiser = TextDenoiser(TripTextUNet(pipe.unet, TripFusion(form, width=16)), pipe.scheduler)
        torch.manual_seed(1)
        return text_loss(denoiser, {"pixel_values": frames, "caption": captions}, pipe.vae, text, args).item()

    assert loss("fusion", ["a cube", "zzz"]) == loss("linear", ["a cube", "zzz"]) != loss("front", ["a cube", "zzz"])
    assert loss("fusion", ["a cube", "zzz"]) != loss("fusion", ["zzz", "a cube"])


def test_a_share_of_the_captions_is_dropped():
    torch.manual_seed(0)
    captions = [str(k) for k in range(1000)]
    kept = drop_captions(captions, 0.3)
    assert 250 < kept.count("") < 350 and all(a in ("", b) for a, b in zip(kept, captions, strict=True))
    assert drop_captions(captions, 0.0) == captions and set(drop_captions(captions, 1.0)) == {""}


@pytest.mark.slow
def test_two_processes_agree(base, annotations, given, tmp_path):
    more = given(fusion_only_steps=1, train_batch_size=1, max_train_steps=3, height=SIZE, width=SIZE)
    first, second = train_in_two(tmp_path, "train_models.train_trip", recipe.__name__, more)
    for one, other in zip(first, second, strict=True):
        assert all(torch.equal(a.half(), b.half()) for a, b in zip(one["params"], other["params"], strict=True))


OTHERS = {
    "sigma_mean": 1, "sigma_std": 1, "noise_aug_mean": 1, "noise_aug_std": 1, "motion_buckets": "b.json",
    "fixed_motion_bucket": True,
}  # fmt: skip


def test_flags_of_stable_video_diffusion_are_refused(given, tmp_path):
    assert set(OTHERS) == set(SVD_FLAGS)
    for name, value in OTHERS.items():
        with pytest.raises(ValueError, match=f"--{name} applies to Stable Video Diffusion: leave it out"):
            main(given(f"--{name}") if value is True else given(**{name: value}))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("form", ["channels", "residual"])
def test_forms_of_channels_are_refused(given, form):
    with pytest.raises(ValueError, match=f"--form {form} is about channels .*: choose one of end, front, linear, fus"):
        main(given(form=form))


def test_gradient_checkpointing_is_refused(given):
    with pytest.raises(ValueError, match="no gradient checkpointing: pass --no-gradient_checkpointing"):
        main(given("--gradient_checkpointing"))
