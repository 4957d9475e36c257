"""The evaluation of flow with its video end to end on a random model, and its figures on cases of known value."""

import json

import pytest
import torch
from PIL import Image

from benchmarks.eval_flow_video import TASKS, chosen, main, means, parser
from benchmarks.flow_video_tasks import FlowBench, TrueFlowClips
from tests.flags import flags
from tests.tiny_video_pipeline import save_flow_adapter, tiny_video_pipeline
from utils.flow.code import FlowCode
from utils.scenes import render_clip, sample_clip
from utils.weights.lora import add_lora, save_lora

SEED, SIDE, F = 2_000_000, 32, 3
TRAINED = {"one_way_share": 0.6, "flow_alone_share": 0.5, "moved_picture": True}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of two joint adapters and two LoRAs."""
    folder = tmp_path_factory.mktemp("models")
    save_flow_adapter(folder / "adapter", **TRAINED)
    save_flow_adapter(folder / "older", one_way_share=0.4)
    unet = tiny_video_pipeline().unet
    add_lora(unet, 2, None, "all")
    for name, trained in (("lora", {}), ("one_step", {"objective": "one_step"})):
        save_lora(unet, folder / name, "default", "base", FlowCode().to_training() | trained, torch.float32)
    return folder


@pytest.fixture
def command(svd_base, models, cache_dir, tmp_path):
    """Arguments of a small evaluation."""
    values = {
        "model_dir": svd_base,
        "adapter": models / "adapter",
        "flow_lora": models / "lora",
        "cache_dir": cache_dir,
    }
    values |= {"num_clips": 3, "num_swept": 1, "num_frames": F, "resolution": SIDE, "batch_size": 2}
    values |= {"num_inference_steps": 1, "output_dir": tmp_path / "out"}
    return lambda *more: flags(*more, **values)


def test_all_tasks_give_a_table_a_json_and_images(command, read, capsys):
    tasks = [task for task in TASKS if task != "one_step"]  # of the same flag as svd_flow
    folder = main(command("--tasks", *tasks, "--joint_guidance_scales", 0, 1, "--eta", 0.5))
    results = read(folder)
    assert set(results) == set(tasks)
    assert {"epe", "epe_share", "motion_ratio", "epe_true"} <= set(results["joint"])
    assert "epe" not in results["svd_flow"] and "epe_true_share" in results["svd_flow"]
    assert {"epe_share_at_0", "epe_share_at_1"} <= set(results["sweep"])
    swept, sampled = (
        json.loads((folder / "partial" / task / "000000.json").read_text()) for task in ("sweep", "joint")
    )
    assert [(row["scene"], row["scale"]) for row in swept] == [(0, 0), (0, 1)]
    assert swept[0]["epe"] == pytest.approx(sampled[0]["epe"], rel=1e-3)
    assert results["flow_first"]["flow_motion"] != results["joint"]["flow_motion"]
    assert results["truth"]["epe"]["mean"] < 0.5 * results["other"]["epe"]["mean"]
    assert (folder / "results.md").read_text() in capsys.readouterr().out
    assert Image.open(folder / "results.png").width >= F * SIDE


def test_true_flow_has_no_error_and_given_flow_and_video_come_back(command, read):
    folder = main(command("--tasks", "truth", "flow_to_video", "video_to_flow"))
    results = read(folder)
    assert results["truth"]["epe_true"]["mean"] == 0
    assert results["truth"]["motion_ratio"]["mean"] == 1
    assert results["truth"]["edge_distance"]["mean"] < 0.5 * results["video_to_flow"]["edge_distance"]["mean"]
    assert results["flow_to_video"]["epe_true"]["mean"] == 0
    assert results["video_to_flow"]["motion"]["mean"] == pytest.approx(results["truth"]["motion"]["mean"], rel=1e-3)


def test_flow_first_is_for_adapters_that_were_trained_for_it(command, models):
    parse = parser().parse_args
    assert "flow_first" in chosen(parse(command()))
    older = ["--adapter", str(models / "older")]
    assert "flow_first" not in chosen(parse([*command(), *older]))
    with pytest.raises(ValueError, match="flow_alone_share"):
        main([*command("--tasks", "flow_first"), *older])


def test_a_lora_decides_whether_flow_is_sampled_or_estimated(command, models, read):
    estimator = ["--flow_lora", str(models / "one_step")]
    given = [*command("--num_clips", 1), *estimator]
    assert {"svd_flow", "one_step"} & set(chosen(parser().parse_args(given))) == {"one_step"}
    assert read(main([*given, "--tasks", "one_step"]))["one_step"]["epe_true_share"]["mean"] > 0
    with pytest.raises(ValueError, match="--tasks svd_flow needs --flow_lora, .* --objective denoising"):
        main([*given, "--tasks", "svd_flow"])


def test_a_joint_adapter_samples_flow_alone_as_well(command, models, read):
    alone = ["--num_clips", 1, "--tasks", "svd_flow", "--flow_lora"]
    assert read(main(command(*alone, models / "adapter")))["svd_flow"]["flow_motion"]["mean"] > 0
    with pytest.raises(ValueError, match="--flow_lora .*older has not learned flow alone"):
        main(command(*alone, models / "older"))


def test_true_flow_is_that_of_the_renderer(tmp_path):
    clips = TrueFlowClips(str(tmp_path), SEED, 3, SIDE)
    clip = sample_clip(SEED + 1, 16)
    wanted = render_clip(clip, SIDE, num_tracks=2).flow[:2]
    assert torch.allclose(clips.flows(range(1, 2))[0], torch.from_numpy(wanted))


def test_a_sample_does_not_depend_on_its_batch(command):
    args = parser().parse_args(command())
    bench = FlowBench(args)
    videos, flows = bench.sample_pairs([0, 1])
    alone = bench.sample_pairs([1])
    assert torch.allclose(videos[1:], alone[0], atol=1e-4) and torch.allclose(flows[1:], alone[1], atol=1e-3)


def test_an_error_is_divided_by_the_motion_it_is_of():
    row = {"epe": 0.5, "motion": 1.0, "flow_motion": 1.0, "warping_error": 0.0, "epe_true": 1.0, "true_motion": 2.0}
    row |= {"edge_moment": 3.0, "edge_weight": 2.0}
    rows = [row | {"exact_motion": 4.0}, row | {"epe": 1.5, "motion": 3.0, "exact_motion": 4.0}]
    found = means(rows)
    assert found["epe_share"].mean == pytest.approx(2 / 4)
    assert found["motion_ratio"].mean == pytest.approx(4 / 4)
    assert found["epe_true_share"].mean == pytest.approx(1 / 4)
    assert found["edge_distance"].mean == pytest.approx(3 / 2)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--first_seed", 3], "may have seen"),
        (["--num_swept", 9, "--tasks", "sweep"], "--num_swept 9 is more than --num_clips 3: lower it"),
        (["--num_frames", 1], "--num_frames 1 is too few"),
        (["--negative_motion_bucket_id", 300], "negative_motion_bucket_id 300 is not allowed"),
    ],
)
def test_bad_values_are_refused_in_a_sentence(command, more, message):
    with pytest.raises(ValueError, match=message):
        main(command(*more))


def test_a_task_without_its_weights_is_refused(svd_base, tmp_path):
    for task, message in (("joint", "--adapter"), ("svd_flow", "--flow_lora")):
        with pytest.raises(ValueError, match=message):
            main(flags(model_dir=svd_base, output_dir=tmp_path / "out", tasks=task))
