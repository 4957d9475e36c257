"""The evaluation of dragged points end to end, on random models."""

from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from benchmarks.eval_trajectory import main, parser
from benchmarks.trajectory_methods import METHODS, DragBench
from tests.flags import flags
from tests.tiny_video_pipeline import save_controlnet, save_flow_adapter
from utils.flow import flow_estimator
from utils.motion_helper import cal_motion_bucket_ids

SIDE, F, SCENES = 32, 3, 3


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of two joint adapters and a ControlNet."""
    folder = tmp_path_factory.mktemp("models")
    save_controlnet(folder / "controlnet")
    save_flow_adapter(folder / "adapter", one_way_share=0.4)
    save_flow_adapter(folder / "flow_first", one_way_share=0.4, flow_alone_share=0.5)
    return folder


@pytest.fixture
def command(svd_base, judges_dir, models, cache_dir, tmp_path):
    """Arguments of a small evaluation."""
    values = {"model_dir": svd_base, "judges_dir": judges_dir, "cache_dir": cache_dir, "output_dir": tmp_path / "out"}
    values |= {"adapter": models / "adapter", "controlnet": models / "controlnet"}
    values |= {"num_scenes": SCENES, "num_frames": F, "resolution": SIDE, "batch_size": 2, "num_inference_steps": 1}
    return lambda *more: flags(*more, **values)


def test_all_methods_give_a_table_a_json_and_images(command, read, capsys):
    folder = main(command("--methods", *METHODS))
    results = read(folder)
    assert list(results) == list(METHODS)
    for method, found in results.items():
        assert {"error", "error_p90", "error_share", "error_share_p90", "end_error", "lost", "motion"} <= set(found)
        assert ("fvd" in found) == (method != "truth")
    assert results["truth"]["error_share"]["mean"] < 0.1 < results["still"]["error_share"]["mean"]
    assert results["still"]["end_error_share"]["mean"] == pytest.approx(1, abs=1e-3)
    assert (folder / "results.md").read_text() in capsys.readouterr().out
    assert Image.open(folder / "results.png").width >= 3 * 3 * SIDE


def test_methods_are_added_to_a_folder_with_settings_of_their_own(command, read):
    main(command("--methods", "truth"))
    main(command("--methods", "warp", "--reach", 4))
    folder = main(command("--methods", "warp", "--name", "warp_far", "--reach", 16))
    assert set(read(folder)) == {"truth", "warp", "warp_far"}
    with pytest.raises(FileExistsError, match="reach"):
        main(command("--methods", "warp", "--reach", 5))
    with pytest.raises(FileExistsError, match="batch_size"):
        main(command("--methods", "truth", "--batch_size", 1))
    with pytest.raises(FileExistsError, match="num_scenes"):
        main(command("--methods", "still", "--num_scenes", 2))


def test_the_bucket_is_that_of_the_training_whatever_the_resolution(command):
    bench = DragBench(parser().parse_args(command("--methods", "none")))
    scene = bench.scenes.scene(0)
    wanted = cal_motion_bucket_ids(flow_estimator("dis"), scene.pixels[None], 8.0)
    assert torch.equal(bench.true_buckets(scene.pixels[None]), wanted)


def test_the_joint_model_samples_as_asked(command):
    asked = {"flow_solver_order": 1, "solver_order": 2, "flow_strength": 0.5, "joint_guidance_scale": 2.0, "reach": 3.0}
    asked |= {"flow_guidance_scale": 1.5, "negative_motion_bucket_id": 7.0}
    bench = DragBench(parser().parse_args(command("--methods", "coarse", "--no-flow_first", *flags(**asked))))
    heard = {}

    def sample(image, tracks, method, **options):
        heard.update(options)
        return SimpleNamespace(frames=torch.zeros(1, F, 3, SIDE, SIDE))

    bench.trajectory_pipe = sample
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
    ("more", "error", "message"),
    [
        (["--first_seed", 3], ValueError, "may have seen"),
        (["--name", "both"], ValueError, "one method"),
        (["--adapter", "nowhere"], FileNotFoundError, "--adapter"),
        (["--controlnet", "nowhere"], FileNotFoundError, "--controlnet"),
        (["--judges_dir", "nowhere"], FileNotFoundError, "no judge"),
        (["--model_dir", "nowhere"], FileNotFoundError, "no model"),
        (["--methods", "warp", "--name", "truth"], ValueError, "another method"),
        (["--flow_strength", 2], ValueError, "from 0 to 1"),
        (["--num_frames", 1], ValueError, "too few"),
    ],
)
def test_bad_values_are_refused_in_a_sentence(command, more, error, message):
    with pytest.raises(error, match=message):
        main(command("--methods", "coarse", "controlnet", *more))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ["--methods", "none", "--reach", 3],
            "--reach applies to --methods warp, coarse, guided: add one of them or leave",
        ),
        (["--methods", "controlnet", "--flow_strength", 0.5], "--flow_strength applies to --methods coarse"),
        (["--methods", "coarse", "--guidance_steps", 0.5], "--guidance_steps applies to --methods guided"),
        (["--methods", "coarse", "--conditioning_scale", 2], "--conditioning_scale applies to --methods controlnet"),
        (["--methods", "coarse", "--reach", 3], "--reach 3 does not apply to --interpolation edge_aware"),
        (
            ["--methods", "coarse", "--flow_guidance_scale", 2],
            "--flow_guidance_scale 2 applies to flow that is sampled",
        ),
        (["--methods", "coarse", "--flow_first"], "--flow_first needs a flow that is not known: raise --flow_strength"),
        (["--methods", "guided", "--flow_first"], "adapter was trained without --flow_alone_share"),
        (["--methods", "none", "--resolution", 20], "--resolution 20 is not a multiple of 8"),
    ],
)
def test_a_flag_that_no_method_reads_is_refused_before_anything_is_loaded(command, monkeypatch, more, message):
    monkeypatch.setattr(DragBench, "load", lambda bench, kind: pytest.fail("loaded"))
    with pytest.raises(ValueError, match=message):
        main(command(*more))


def test_flow_first_is_for_adapters_that_were_trained_for_it(command, models):
    more = ["--adapter", models / "flow_first", "--flow_first", "--guidance_iterations", 1, "--num_scenes", 2]
    folder = main(command("--methods", "guided", *more))
    assert (folder / "guided/partial/guided/000000.json").is_file()
