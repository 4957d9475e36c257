"""What the options of run_svd do to figures of known value."""

import pytest
import torch

from benchmarks.eval_svd_options import figures, main
from benchmarks.video_bench import VideoBench
from tests.flags import flags


def test_flicker_and_sharpness_of_known_videos():
    stripes = torch.ones(16, 16)
    stripes[:, ::2] = -1
    still = stripes.expand(4, 3, 16, 16)
    assert figures(still) == {"flow": 0, "flicker": 0, "sharpness": 1}  # every step across is 2, down 0
    blinking = still * torch.tensor([1.0, -1, 1, -1])[:, None, None, None]
    assert figures(blinking)["flicker"] == 4


@pytest.fixture
def command(svd_base, tmp_path):
    """Arguments of a small evaluation."""
    values = {"model_dir": svd_base, "output_dir": tmp_path / "out", "resolution": 32, "num_clips": 2}
    values |= {"num_inference_steps": 1, "temporal_smoothing": [0, 1], "motion_scale": [0, 1]}
    return lambda *more: flags(*more, **values)


def test_smoothing_and_no_motion_are_measured_as_less_flicker(command, read):
    results = read(main(command()))
    assert list(results) == ["plain", "temporal_smoothing 1", "motion_scale 0"]
    flicker = {name: found["flicker"]["mean"] for name, found in results.items()}
    assert (
        flicker["motion_scale 0"] < flicker["plain"]
    )  # equal latents, which a decoder over time does not decode as equal
    assert flicker["temporal_smoothing 1"] < flicker["plain"]


def test_values_are_added_to_a_folder(command, read):
    main(command())
    results = read(main(command("--motion_scale", 1, 2, "--temporal_smoothing", 0)))
    assert list(results) == ["plain", "motion_scale 2"]


def test_the_unconditional_prediction_may_have_another_bucket(command, read):
    plain = ["--temporal_smoothing", 0, "--motion_scale", 1]
    usual = read(main(command(*plain)))
    lower = read(main(command(*plain, "--negative_motion_bucket_id", 0, "--overwrite")))
    assert usual["plain"] != lower["plain"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--temporal_smoothing", 2], "temporal_smoothing 2 is not allowed"),
        (["--resolution", 20], "--resolution 20 is not a multiple of 8"),
        (["--device", "nowhere"], "--device nowhere is not available"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_loaded(command, monkeypatch, more, message):
    monkeypatch.setattr(VideoBench, "load", lambda bench, kind: pytest.fail("loaded"))
    with pytest.raises(ValueError, match=message):
        main(command(*more))
