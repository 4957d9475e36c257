"""Training of TRIP: its loss, its two learning rates, the steps of the fusion alone, and whole runs."""

import json
from itertools import pairwise

import pytest
import torch
from safetensors.torch import load_file

import utils.training.svd as recipe
from models.trip import FORMS, TripFusion
from models.trip_unet import TripUNet
from pipelines.pipeline_trip import StableVideoDiffusionTripPipeline
from tests.two_processes import train_in_two
from train_models.train_trip import main, make_parser, trip_loss
from utils.diffusion.edm import EDM
from utils.diffusion.svd_condition import ConditionEncoder
from utils.motion_helper import PROCEDURAL, MotionBuckets
from utils.training.parameters import fusion_groups

F, SIZE = 4, 32


@pytest.fixture(scope="module")
def clips(make_clips):
    return make_clips(num_samples=3, num_frames=6, num_tracks=2)


@pytest.fixture(scope="module")
def annotations(clips, tmp_path_factory):
    """A JSON list of {"video_path", "text"} of the same clips."""
    rows = [json.loads(line) for line in (clips / "metadata.jsonl").read_text().splitlines()]
    found = [{"video_path": str(clips / row["video_folder"]), "text": "a cube", "fps": row["fps"]} for row in rows]
    path = tmp_path_factory.mktemp("annotations") / "clips.json"
    path.write_text(json.dumps(found))
    return path


def flags(base, clips, output_dir, *more):
    found = [
        "--pretrained_model_name", base, "--train_data_dir", clips, "--output_dir", output_dir, "--num_frames", F,
        "--height", SIZE, "--width", SIZE, "--train_batch_size", 2, "--max_train_steps", 2, "--learning_rate", 1e-3,
        "--fusion_learning_rate", 1e-2, "--fusion_width", 16, "--num_inference_steps", 2, *more,
    ]  # fmt: skip
    return [str(flag) for flag in found]


def train(*arguments):
    main(flags(*arguments))


def arguments(*more):
    return make_parser().parse_args(["--train_data_dir", "d", "--output_dir", "o", *map(str, more)])


@pytest.fixture
def batch():
    torch.manual_seed(0)
    frames = torch.rand(2, F, 3, SIZE, SIZE) * 2 - 1
    numbers = {"fps": torch.tensor([7.0, 8.0]), "motion_bucket_id": torch.tensor([10, 127])}
    return {"pixel_values": frames, "image": frames[:, 0], **numbers}


def compute_loss(pipe, batch, form):
    encoder = ConditionEncoder(pipe.vae, pipe.image_encoder, pipe.feature_extractor)
    model = TripUNet(pipe.unet, TripFusion(form, width=16))
    torch.manual_seed(1)
    return trip_loss(model, batch, encoder, EDM(), arguments("--conditioning_dropout_prob", 0))


def test_the_fusion_starts_with_the_loss_of_the_linear_form(tiny_svd, batch):
    losses = {form: compute_loss(tiny_svd, batch, form).item() for form in FORMS}
    assert losses["fusion"] == losses["linear"]
    assert len({round(value, 6) for value in losses.values()}) == len(FORMS) - 1


def test_unet_and_fusion_have_learning_rates_of_their_own(tiny_svd):
    args = arguments("--fusion_only_steps", 7)
    assert (args.learning_rate, args.fusion_learning_rate) == (2e-6, 2e-4)
    pipe = StableVideoDiffusionTripPipeline(**tiny_svd.components, fusion=TripFusion())
    unet, fusion = fusion_groups(pipe.unet, pipe.fusion, args)
    assert unet["start_step"] == 7 and "lr" not in unet and len(unet["params"]) == len(list(pipe.unet.parameters()))
    assert fusion["lr"] == 2e-4 and "start_step" not in fusion
    assert len(fusion["params"]) == len(list(pipe.fusion.parameters()))


def test_the_fusion_is_trained_alone_and_then_all(svd_base, annotations, tmp_path):
    train(svd_base, annotations, tmp_path, "--fusion_only_steps", 2, "--max_train_steps", 3, "--checkpointing_steps", 1)
    weights = [load_file(tmp_path / f"checkpoint-{step}/trained.safetensors") for step in (1, 2, 3)]
    moved = [
        {name for name in before if not torch.equal(before[name], after[name])} for before, after in pairwise(weights)
    ]
    start = StableVideoDiffusionTripPipeline.from_pretrained(svd_base).unet.state_dict()
    assert all(torch.equal(weights[1][f"unet.{name}"], value) for name, value in start.items())
    assert moved[0] and all(name.startswith("fusion.") for name in moved[0])
    assert any(name.startswith("unet.") for name in moved[1]) and any(name.startswith("fusion.") for name in moved[1])


def test_a_run_writes_a_base_that_samples_and_validates_on_a_file(svd_base, annotations, tmp_path):
    train(svd_base, annotations, tmp_path, "--validation_data_dir", annotations, "--num_validation_samples", 1)
    pipe = StableVideoDiffusionTripPipeline.from_pretrained(tmp_path, dtype=torch.float32)
    assert pipe.fusion.config.form == "fusion" and MotionBuckets.load(tmp_path) == PROCEDURAL
    assert pipe.fusion.temporal.out.weight.any()
    pipe.set_progress_bar_config(disable=True)
    image = torch.zeros(1, 3, SIZE, SIZE)
    assert pipe(image, num_frames=F, num_inference_steps=1, output_type="pt").frames.isfinite().all()
    lines = [json.loads(line) for line in (tmp_path / "validation/loss.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 2] and lines[0]["loss"] != lines[1]["loss"]
    assert (tmp_path / "validation/000002_samples.png").is_file() and (tmp_path / "validation/000002_0.mp4").is_file()


def test_a_trained_base_is_gone_on_with_in_its_own_form(svd_base, clips, tmp_path):
    train(svd_base, clips, tmp_path / "first", "--trainable", "none")
    train(tmp_path / "first", clips, tmp_path / "more", "--trainable", "none")
    first, more = (
        load_file(tmp_path / run / "fusion/diffusion_pytorch_model.safetensors") for run in ("first", "more")
    )
    assert not torch.equal(first["temporal.out.weight"], more["temporal.out.weight"])
    unets = [
        StableVideoDiffusionTripPipeline.from_pretrained(folder).unet.half().state_dict()
        for folder in (svd_base, tmp_path / "more")
    ]
    assert all(torch.equal(value, unets[1][name]) for name, value in unets[0].items())
    with pytest.raises(ValueError, match="first was trained with --form fusion, not linear: pass that"):
        train(tmp_path / "first", clips, tmp_path / "other", "--form", "linear")


@pytest.mark.parametrize("more", [["--fusion_only_steps", 2, "--use_ema"], ["--form", "linear", "--cache_latents"]])
def test_a_resumed_run_equals_an_uninterrupted_one(svd_base, clips, tmp_path, more):
    more = [*more, "--cache_dir", tmp_path / "cache"]
    train(svd_base, clips, tmp_path / "whole", *more, "--max_train_steps", 4)
    train(svd_base, clips, tmp_path / "parts", *more, "--max_train_steps", 1)
    again = ["--max_train_steps", 4, "--resume_from_checkpoint", "latest"]
    train(svd_base, clips, tmp_path / "parts", *more, *again)
    whole, parts = (load_file(tmp_path / run / "checkpoint-4/trained.safetensors") for run in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(parts[name], value) for name, value in whole.items())
    with pytest.raises(ValueError, match="was made with --form"):
        train(svd_base, clips, tmp_path / "parts", *again, "--form", "front", "--max_train_steps", 5)


@pytest.mark.slow
def test_two_processes_agree_where_the_fusion_is_first_alone(svd_base, clips, tmp_path):
    more = ["--fusion_only_steps", 1, "--train_batch_size", 1, "--max_train_steps", 3]
    first, second = train_in_two(
        tmp_path, "train_models.train_trip", recipe.__name__, flags(svd_base, clips, tmp_path / "run", *more)
    )
    for one, other in zip(first, second, strict=True):
        pairs = zip(one["params"], other["params"], strict=True)  # the first process has written, in half precision
        assert all(torch.equal(a.half(), b.half()) for a, b in pairs)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--fusion_heads", 5], "--fusion_heads 5 do not divide --fusion_width 16: change one"),
        (
            ["--form", "linear", "--fusion_only_steps", 3],
            "--fusion_only_steps needs --form fusion: linear has no weights",
        ),
        (["--form", "front", "--trainable", "none"], "--trainable none leaves nothing to train"),
        (["--num_frames", 1], "--num_frames 1 is too few: pass 2 or more"),
        (["--train_data_dir", "missing.json"], "no data set missing.json"),
        (["--pretrained_model_name", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence_before_anything_is_written(
    svd_base, clips, tmp_path, more, message
):
    with pytest.raises((ValueError, FileNotFoundError), match=message) as refused:
        train(svd_base, clips, tmp_path / "run", *more)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_annotations_without_a_video_are_refused(svd_base, tmp_path):
    path = tmp_path / "clips.json"
    path.write_text(json.dumps([{"text": "a cube"}]))
    with pytest.raises(ValueError, match="clips.json"):
        train(svd_base, path, tmp_path / "run")
