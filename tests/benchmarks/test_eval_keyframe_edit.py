"""The evaluation of edits end to end on random models, and its figures on cases of known value."""

from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from benchmarks.edit_tasks import METHODS, Bench
from benchmarks.eval_keyframe_edit import FIGURES, main, parser
from tests.flags import flags

CHEAP = ("truth", "source")


@pytest.fixture
def command(folders, svd_base, judges_dir, tmp_path):
    values = {"image_model": folders.model, "depth_adapter": folders.adapters / "depth.safetensors"}
    values |= {"model_dir": svd_base, "judges_dir": judges_dir, "output_dir": tmp_path / "out", "num_clips": 2}
    values |= {"num_frames": 3, "keyframe_interval": 2, "resolution": 32, "edit_steps": 1, "num_inference_steps": 1}
    return lambda *more: [*flags(**values), *map(str, more)]


@pytest.fixture
def bench(judges_dir, tmp_path):
    args = parser().parse_args(flags(output_dir=tmp_path, judges_dir=judges_dir, num_frames=5, keyframe_interval=2))
    args.device = "cpu"
    return Bench(args)


def test_all_methods_are_compared(command, read, capsys):
    folder = main(command())
    results = read(folder)
    assert list(results) == list(METHODS)
    assert {"changed", "outside", "flow_error", "fvd"} <= set(results["together"]) <= {*FIGURES, "fvd"}
    assert "together (2)" in capsys.readouterr().out
    # Of two clips four rows each of three frames, and a gap below.
    assert Image.open(folder / "results.png").size == (3 * 32, 2 * (4 * 32 + 8))


def test_the_truth_has_changed_all_and_the_source_nothing(bench):
    found = {}
    for method in CHEAP:
        rows = [bench.row(METHODS[method](bench, bench.true(index), 0), bench.true(index)) for index in range(3)]
        found[method] = SimpleNamespace(**{name: torch.tensor([row[name] for row in rows]).mean() for name in FIGURES})
    truth, source = found["truth"], found["source"]
    assert truth.changed > 0.8 and source.unchanged > 0.8
    assert source.changed < 0.1 and truth.unchanged < 0.1
    assert truth.inside == truth.outside == 0 and source.inside > 20
    assert truth.lost == 0 and truth.color_std < 5 and truth.position_std < 2
    assert truth.flow_error < 3


def test_keyframes_that_differ_are_seen_to(bench):
    true = bench.true(0)
    shifted = true.target.clone()
    shifted[2] = shifted[2].roll(6, dims=-1) * 0.8  # the middle keyframe of 0, 2 and 4
    before, after = (bench.row(video, true) for video in (true.target, shifted))
    assert after["color_std"] > before["color_std"] + 1
    assert after["position_std"] > before["position_std"] + 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["--keyframe_interval", 5], "keyframe interval of 5 needs 6"),
        (["--first_seed", 5], "may have seen it"),
        (["--strength", 2], "strength 2 is not allowed"),
        (["--depth_adapter", "none"], "no --depth_adapter"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_models_are_loaded(command, changes, words):
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        main(command(*changes))
