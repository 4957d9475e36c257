"""The comparison of TRIP's forms end to end on random models, and its figures on cases of known value."""

import json

import pytest
import torch
from PIL import Image

from benchmarks.eval_trip import FIGURES, main, over_seeds, parser
from benchmarks.trip_tasks import Bench, error_of_v, find_runs, make_tasks
from models.trip import TripFusion
from pipelines.pipeline_trip import StableVideoDiffusionTripPipeline
from tests.tiny_video_pipeline import tiny_video_pipeline
from utils.metrics.statistics import Estimate
from utils.motion_helper import PROCEDURAL

RUNS = ("channels-0", "linear-0", "linear-1", "fusion-0")


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for run in RUNS:
        form, _, seed = run.partition("-")
        components = tiny_video_pipeline(int(seed)).components
        pipe = StableVideoDiffusionTripPipeline(**components, fusion=TripFusion(form, width=16, heads=2))
        pipe.save_pretrained(folder / run)
        PROCEDURAL.save(folder / run)
    (folder / "notes-0").mkdir()
    return folder


@pytest.fixture
def command(runs_dir, four_clips):
    return four_clips(runs_dir=runs_dir)


def test_forms_are_compared_over_their_seeds(command, read, capsys):
    folder = main(command())
    results = read(folder)
    assert list(results) == ["channels", "linear", "fusion", "truth", *RUNS]
    assert set(results["linear"]) == {*FIGURES, "fvd"} and "v_error" not in results["truth"]
    pair = [results[run]["v_error"]["mean"] for run in ("linear-0", "linear-1")]
    assert results["linear"]["v_error"] == {"mean": pytest.approx(sum(pair) / 2), "low": min(pair), "high": max(pair)}
    assert results["truth"]["first_frame_error"]["mean"] == 0
    table = (folder / "results.md").read_text()
    assert table in capsys.readouterr().out
    assert "linear (2 seeds)" in table and "fusion (1 seeds)" in table and "linear-0" not in table
    Image.open(folder / "results.png").verify()


def test_a_fusion_that_learned_nothing_is_the_linear_form(command, read):
    results = read(main(command("--tasks", "truth", "linear-0", "fusion-0")))
    for name in (*FIGURES, "fvd"):
        if name in results["linear"]:
            assert results["fusion"][name]["mean"] == pytest.approx(results["linear"][name]["mean"], rel=1e-3, abs=1e-4)


def test_with_the_prior_the_first_frame_is_the_image_as_the_autoencoder_shows_it(command, read, runs_dir, cache_dir):
    results = read(main(command("--tasks", "linear-0", "channels-0")))
    bench = Bench(parser().parse_args(command()))
    pipe = bench.trained("linear-0")
    image = bench.clips.videos(range(4))[:, :1]
    shown = pipe.decode(pipe.encode_frames(image.expand(-1, 3, -1, -1, -1)))[:, 0].clamp(-1, 1)
    autoencoder = (shown - image[:, 0]).abs().mean().item() * 127.5
    assert results["linear"]["first_frame_error"]["mean"] == pytest.approx(autoencoder, rel=0.2)
    assert results["channels"]["first_frame_error"]["mean"] != results["linear"]["first_frame_error"]["mean"]


def test_the_error_of_v_has_the_same_noise_in_each_run(command):
    bench = Bench(parser().parse_args(command()))
    pipe = bench.trained("fusion-0")
    clip = bench.clips.videos([0])[0]
    first, again = (error_of_v(pipe, clip, torch.tensor(100), bench.args) for _ in range(2))
    assert first == again > 0


def test_seeds_have_a_mean_and_a_spread():
    runs = [{"fvd": Estimate(value, 0.0, 9.0)} for value in (1.0, 2.0, 6.0)]
    assert over_seeds(runs) == {"fvd": Estimate(3.0, 1.0, 6.0)}


def test_runs_are_found_by_their_names(runs_dir):
    assert find_runs(runs_dir) == list(RUNS)
    assert list(make_tasks(runs_dir)) == ["truth", *RUNS]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--runs_dir", "nowhere"], "nowhere: train forms with train_models/train_trip.py"),
        (["--tasks", "fusion-7"], "--tasks fusion-7 is none: .* has channels-0, linear-0"),
        (["--num_clips", 3], "num_clips 3 is too few"),
        (["--judges_dir", "nowhere"], "judge"),
        (["--first_seed", 5], "5"),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence(command, more, message, tmp_path):
    with pytest.raises((ValueError, FileNotFoundError), match=message) as refused:
        main(command(*more))
    assert "\n" not in str(refused.value) and not (tmp_path / "out").exists()


def test_a_folder_without_runs_is_refused(command, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="has no folder FORM-SEED, such as fusion-0"):
        main([*command(), "--runs_dir", str(tmp_path / "empty")])


def test_runs_are_added_to_results_that_are_there(command, read):
    main(command("--tasks", "truth", "linear-0"))
    folder = main(command("--tasks", "fusion-0"))
    assert list(read(folder)) == ["linear", "fusion", "truth", "linear-0", "fusion-0"]
    settings = json.loads((folder / "fusion-0/settings.json").read_text())
    assert settings["method"] == "fusion-0" and "fusion-0_hash" in settings and "linear-0_hash" not in settings
    with pytest.raises(FileExistsError, match="measured with num_inference_steps 1, not 2"):
        main(command("--tasks", "linear-1", "--num_inference_steps", 2))
