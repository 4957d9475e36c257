"""The evaluation of controls end to end on random models, and its errors on cases of known value."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.control_tasks import TASKS, Bench, mask_error
from benchmarks.eval_svd_controlnet import FIGURES, main, parser
from models.svd_controlnet import ControlNetSVD
from tests.tiny_video_pipeline import tiny_video_pipeline
from utils.pretrained import shipped


@pytest.fixture(scope="module")
def controlnets(tmp_path_factory):
    """From a kind to the folder of a ControlNet that acts."""
    folder = tmp_path_factory.mktemp("controlnets")
    for kind in ("depth", "segmentation", "flow"):
        net = ControlNetSVD.from_unet(tiny_video_pipeline().unet, 3, 4, kind)
        for parameter in net.controlnet_mid_block.parameters():
            parameter.data.fill_(0.3)
        net.save_pretrained(folder / kind)
    return folder


@pytest.fixture
def command(svd_base, four_clips, controlnets):
    def make(kind, *more):
        known = ["--control", kind, "--controlnet", controlnets / kind]
        return four_clips(model_dir=svd_base)(*known, *more)

    return make


@pytest.fixture
def bench(command):
    """From a kind to an evaluation with the judges of the project."""
    more = ["--num_frames", 5, "--resolution", 64, "--judges_dir", shipped("judges"), "--device", "cpu"]
    return lambda kind: Bench(parser().parse_args(command(kind, *more)))


def test_all_controls_are_compared(command, read, capsys):
    folder = main(command("segmentation"))
    results = read(folder)
    assert list(results) == [*TASKS, "with - without", "other - without"]
    assert set(results["with"]) == {*FIGURES, "fvd"} and "fvd" not in results["truth"]
    assert results["with"]["control_error"] == results["with"]["given_error"]
    assert results["other"]["control_error"] != results["other"]["given_error"]
    table = (folder / "results.md").read_text()
    assert table in capsys.readouterr().out and "| without |" in table
    Image.open(folder / "results.png").verify()
    assert json.loads((folder / "results.json").read_text())["settings"]["control"] == "segmentation"


def test_the_control_acts_and_that_of_the_base_does_not_depend_on_it(bench):
    bench = bench("depth")
    bench.args.num_inference_steps = 1
    without, own = bench.sample([0, 1], None), bench.sample([0, 1], [0, 1])
    assert not torch.equal(without, own)
    bench.args.controlnet_conditioning_scale = 0.0
    assert torch.equal(bench.sample([0, 1], [1, 0]), without)


@pytest.mark.parametrize(
    ("kind", "least", "most"), [("depth", 0.1, 0.12), ("segmentation", 0.3, 0.15), ("flow", 0, 0.5)]
)
def test_a_true_clip_agrees_with_its_own_control_and_not_with_another(bench, kind, least, most):
    bench = bench(kind)
    video = bench.clips.videos([2])[0]
    own, other = bench.error(video, 2, 2), bench.error(video, 2, 3)
    assert own < most and other > max(own, least)


def test_masks_of_objects_in_other_places_have_an_error_of_one(bench):
    bench = bench("segmentation")
    video, labels = bench.clips.videos([2])[0], bench.truth(2).labels
    assert mask_error(video, bench.clips.scene(2), labels) < 0.15
    nowhere = np.where(labels >= 0, -1, 0).astype(np.int8)
    assert mask_error(video, bench.clips.scene(2), nowhere) > 0.9


@pytest.mark.parametrize(
    ("kind", "more", "message"),
    [
        ("depth", ["--control", "flow"], "reads depth, not flow"),
        ("depth", ["--controlnet", "nowhere"], "no ControlNet nowhere"),
        ("depth", ["--num_frames", 1], "num_frames 1 is too few"),
        ("depth", ["--model_dir", "nowhere"], "no model nowhere"),
        ("depth", ["--judges_dir", "nowhere"], "judge"),
        ("depth", ["--first_seed", 5], "may have seen it"),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence(command, kind, more, message, tmp_path):
    with pytest.raises((ValueError, FileNotFoundError), match=message) as refused:
        main(command(kind, *more))
    assert "\n" not in str(refused.value) and not (tmp_path / "out").exists()
