"""The evaluation of dragged points end to end, on random models."""

import json
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

import patch
from benchmarks import trajectory_methods
from benchmarks.eval_trajectory import main, parser
from benchmarks.trajectory_methods import METHODS, DragBench
from models.svd_controlnet import ControlNetSVD
from tests.tiny_video_pipeline import tiny_video_pipeline
from utils.flow import flow_estimator
from utils.flow.code import FlowCode
from utils.judges import VideoJudge, save_judge
from utils.motion_helper import PROCEDURAL, cal_motion_bucket_ids
from utils.tracks.control_map import CONTROL_CHANNELS

SIDE, F, SCENES = 32, 3, 3


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of a base, a joint adapter, a ControlNet and a judge."""
    folder = tmp_path_factory.mktemp("models")
    pipe = tiny_video_pipeline()
    pipe.save_pretrained(folder / "base")
    PROCEDURAL.save(folder / "base")
    controlnet = ControlNetSVD.from_unet(pipe.unet, conditioning_channels=CONTROL_CHANNELS, vae_scale_factor=4)
    controlnet.save_pretrained(folder / "controlnet")
    patch.add_joint(pipe.unet, "flow", rank=2, post="aligned")
    patch.save(pipe.unet, folder / "adapter", "flow", training=FlowCode().to_training() | {"one_way_share": 0.4})
    torch.manual_seed(0)
    save_judge(folder / "judges/video.safetensors", VideoJudge((8, 8, 8)))
    return folder


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def command(models, cache_dir, tmp_path):
    """Arguments of a small evaluation."""

    def make(*more):
        values = {
            "model_dir": models / "base", "adapter": models / "adapter", "controlnet": models / "controlnet",
            "judges_dir": models / "judges", "cache_dir": cache_dir, "num_scenes": SCENES, "num_frames": F,
            "resolution": SIDE, "batch_size": 2, "num_inference_steps": 1, "output_dir": tmp_path / "out",
        }  # fmt: skip
        return [*(str(part) for name, value in values.items() for part in (f"--{name}", value)), *map(str, more)]

    return make


def results_of(folder):
    return json.loads((folder / "results.json").read_text())["results"]


def test_all_methods_give_a_table_a_json_and_pictures(command, capsys):
    folder = main(command("--methods", *METHODS))
    results = results_of(folder)
    assert list(results) == list(METHODS)
    for method, found in results.items():
        assert {"error", "error_p90", "error_share", "error_share_p90", "end_error", "lost", "motion"} <= set(found)
        assert ("fvd" in found) == (method != "truth")
    assert results["truth"]["error_share"]["mean"] < 0.1 < results["still"]["error_share"]["mean"]
    assert results["still"]["end_error_share"]["mean"] == pytest.approx(1, abs=1e-3)
    assert (folder / "results.md").read_text() in capsys.readouterr().out
    assert Image.open(folder / "results.png").width >= 3 * 3 * SIDE


def test_methods_are_added_to_a_folder_with_settings_of_their_own(command):
    main(command("--methods", "truth"))
    main(command("--methods", "warp", "--reach", 4))
    folder = main(command("--methods", "warp", "--name", "warp_far", "--reach", 16))
    assert set(results_of(folder)) == {"truth", "warp", "warp_far"}
    with pytest.raises(FileExistsError, match="reach"):
        main(command("--methods", "warp", "--reach", 5))
    with pytest.raises(FileExistsError, match="batch_size"):
        main(command("--methods", "truth", "--batch_size", 1))
    with pytest.raises(FileExistsError, match="num_scenes"):
        main(command("--methods", "still", "--num_scenes", 2))


def test_a_run_that_was_stopped_goes_on(command, monkeypatch):
    compute, asked = trajectory_methods.METHODS["still"], []

    def fails(bench, indices, scenes):
        asked.append(list(indices))
        if indices.start and len(asked) == 2:
            raise KeyboardInterrupt
        return compute(bench, indices, scenes)

    monkeypatch.setitem(trajectory_methods.METHODS, "still", fails)
    with pytest.raises(KeyboardInterrupt):
        main(command("--methods", "still"))
    main(command("--methods", "still"))
    assert asked == [[0, 1], [2], [2]]


def test_the_bucket_is_that_of_the_training_whatever_the_resolution(command):
    bench = DragBench(parser().parse_args(command("--methods", "none")))
    scene = bench.scenes.scene(0)
    wanted = cal_motion_bucket_ids(flow_estimator("dis"), scene.pixels[None], 8.0)
    assert torch.equal(bench.told_buckets([scene]), wanted)


def test_the_joint_model_draws_as_asked(command):
    asked = {"flow_solver_order": 1, "solver_order": 2, "flow_strength": 0.5, "joint_guidance_scale": 2.0, "reach": 3.0}
    asked |= {"flow_guidance_scale": 1.5, "negative_motion_bucket_id": 7.0}
    flags = [part for name, value in asked.items() for part in (f"--{name}", value)]
    bench = DragBench(parser().parse_args(command("--methods", "coarse", "--no-flow_first", *flags)))
    heard = {}

    def draw(image, tracks, method, **options):
        heard.update(options)
        return SimpleNamespace(frames=torch.zeros(1, F, 3, SIDE, SIDE))

    bench.trajectory_pipe = draw
    METHODS["coarse"](bench, range(1), [bench.scenes.scene(0)])
    assert {name: heard[name] for name in asked} == asked
    assert heard["flow_first"] is False


@pytest.mark.parametrize("method", ["none", "coarse", "controlnet"])
def test_a_sample_does_not_depend_on_its_batch(command, method):
    bench = DragBench(parser().parse_args(command("--methods", method)))
    scenes = [bench.scenes.scene(i) for i in range(2)]
    together = METHODS[method](bench, range(2), scenes)
    alone = METHODS[method](bench, range(1, 2), scenes[1:])
    assert torch.allclose(together[1:], alone, atol=1e-4)


@pytest.mark.parametrize(
    "flags, error, message",
    [
        (["--first_seed", 3], ValueError, "may have seen"),
        (["--name", "both"], ValueError, "one method"),
        (["--adapter", "nowhere"], FileNotFoundError, "--adapter"),
        (["--controlnet", "nowhere"], FileNotFoundError, "--controlnet"),
        (["--judges_dir", "nowhere"], FileNotFoundError, "no judge"),
        (["--model_dir", "nowhere"], FileNotFoundError, "no base"),
        (["--methods", "warp", "--name", "truth"], ValueError, "another method"),
        (["--flow_strength", 2], ValueError, "from 0 to 1"),
        (["--num_frames", 1], ValueError, "2 at least"),
    ],
)
def test_bad_values_are_refused_in_a_sentence(command, flags, error, message):
    with pytest.raises(error, match=message):
        main(command("--methods", "coarse", "controlnet", *flags))
