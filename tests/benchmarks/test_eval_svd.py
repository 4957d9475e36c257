"""The evaluation of image to video end to end on a random model, and its figures on cases of known value."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import svd_tasks
from benchmarks.eval_svd import TASKS, files, main, parser
from benchmarks.protocol import Results
from benchmarks.svd_clips import AT_ONCE, TrueClips
from benchmarks.svd_report import summarize
from benchmarks.svd_tasks import Bench
from benchmarks.video_bench import GAP
from tests.flags import flags
from tests.tiny_video_pipeline import tiny_video_pipeline
from utils.judges import VideoJudge, save_judge
from utils.motion_helper import PROCEDURAL, MotionBuckets
from utils.scenes import render_clip, sample_clip
from utils.weights.lora import add_lora, save_lora


@pytest.fixture
def command(svd_base, judges_dir, cache_dir, tmp_path):
    """Arguments of a small evaluation."""
    values = {"model_dir": svd_base, "judges_dir": judges_dir, "cache_dir": cache_dir, "output_dir": tmp_path / "out"}
    values |= {
        "num_clips": 4,
        "num_fixed": 2,
        "num_swept": 2,
        "num_frames": 3,
        "batch_size": 3,
        "num_inference_steps": 2,
    }
    return lambda *more: flags(*more, **values)


def test_all_tasks_give_a_table_a_json_and_images(command, read, capsys):
    folder = main(command("--buckets", 0, 255))
    results = read(folder)
    assert set(results) == {*TASKS, "fixed - samples"}
    measured = {
        "fvd",
        "consistency",
        "motion_ratio",
        "object_motion_ratio",
        "motion_error",
        "shape_kept",
        "color_drift",
    }
    assert measured <= set(results["samples"])
    assert {"object_motion_rank_correlation", "object_motion_rank_correlation_pooled"} <= set(results["buckets"])
    assert all(v["low"] <= v["mean"] <= v["high"] for values in results.values() for v in values.values())
    table = (folder / "results.md").read_text()
    assert table in capsys.readouterr().out
    for name in ("results.png", "motion.png"):
        Image.open(folder / name).verify()
    sheet = Image.open(folder / "partial/samples/picture.png")
    assert sheet.size == (3 * 64, 3 * (2 * 64 + GAP))  # three frames; truth, sample and a gap for each clip
    assert not list(folder.rglob(".tmp*"))


def test_a_frozen_frame_does_not_move_and_is_consistent(command, read):
    results = read(main(command("--tasks", "truth", "frozen")))
    assert results["frozen"]["motion_ratio"]["mean"] == pytest.approx(0, abs=1e-2)
    assert results["frozen"]["object_motion"]["mean"] == pytest.approx(0, abs=1e-2)
    assert results["frozen"]["consistency"]["mean"] == pytest.approx(1, abs=1e-5)
    assert results["truth"]["motion"]["mean"] > 0.1


def test_objects_of_true_clips_keep_shape_and_color_and_those_turned_gray_do_not(tmp_path):
    clips = TrueClips(str(tmp_path), 2_000_000)
    found = [svd_tasks.measure_looks(clips.videos([i])[0], clips, i) for i in range(AT_ONCE)]
    gray = [svd_tasks.measure_looks(fade(clips.videos([i])[0]), clips, i) for i in range(AT_ONCE)]
    assert np.nanmean([row["shape_kept"] for row in found]) > 0.8
    assert np.nanmean([row["color_drift"] for row in found]) < 15
    assert np.nanmean([row["shape_kept"] for row in gray]) < 0.1


def fade(video):
    """All frames after the first without colour."""
    return torch.cat([video[:1], video[1:].mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)])


def test_clips_without_an_object_of_its_own_color_are_left_out_of_shape_and_color():
    rows = [
        {**row, "shape_kept": value, "color_drift": 2 * value}
        for row, value in zip(plain_rows(3), (0.5, float("nan"), 1.0), strict=True)
    ]
    found = summarize(Results({}, {"truth": rows * 2}, {}))["truth"]
    assert found["shape_kept"].mean == pytest.approx(0.75) and found["color_drift"].mean == pytest.approx(1.5)
    assert "shape_kept" not in summarize(Results({}, {"truth": plain_rows(6)}, {}))["truth"]


def plain_rows(count):
    numbers = {"motion": 1.0, "object_motion": 1.0, "consistency": 1.0, "camera": "pan"}
    features = np.random.default_rng(0).normal(size=(count, 2))
    return [{"features": list(f), **numbers} for f in features]


def test_a_run_that_was_stopped_goes_on_and_gives_the_same(command, read, tmp_path, stop_once):
    tasks = ["--tasks", "truth", "samples"]
    whole = read(main(command(*tasks, "--output_dir", tmp_path / "whole")))
    asked = stop_once(TASKS, "samples")
    with pytest.raises(KeyboardInterrupt):
        main(command(*tasks))
    assert read(main(command(*tasks))) == whole
    assert asked == [[0, 1, 2], [3], [3]]


def test_a_sample_depends_on_its_clip_and_bucket_and_not_on_its_batch(command):
    bench = Bench(parser().parse_args(command()))
    together = bench.sample([0, 1], torch.tensor([10, 200]))
    alone = bench.sample([1], torch.tensor([200]))
    torch.testing.assert_close(alone[0], together[1], atol=1e-4, rtol=0)
    assert torch.equal(bench.sample([1], torch.tensor([200])), alone)
    assert not torch.equal(bench.sample([1], torch.tensor([10])), alone)


def test_a_lora_changes_the_samples(command, tmp_path):
    unet = tiny_video_pipeline().unet
    for weight in add_lora(unet, 2):
        torch.nn.init.normal_(weight, std=0.5)
    save_lora(unet, tmp_path / "lora")
    asked = [0], torch.tensor([100])
    plain, adapted = (
        Bench(parser().parse_args(command(*more))).sample(*asked) for more in ([], ["--lora", tmp_path / "lora"])
    )
    assert not torch.allclose(plain, adapted, atol=1e-4)


def test_buckets_are_of_the_last_lora_that_has_a_map_or_of_the_model(command, tmp_path):
    unet = tiny_video_pipeline().unet
    add_lora(unet, 2)
    for name in ("with_map", "without"):
        save_lora(unet, tmp_path / name)
    own = MotionBuckets(10.0, 5.0)
    own.save(tmp_path / "with_map")
    loras = ["--lora", tmp_path / "with_map", tmp_path / "without"]
    without, adapted = (parser().parse_args(command(*more)) for more in (loras[:1] + loras[2:], loras))
    assert Bench(without).buckets == PROCEDURAL and Bench(adapted).buckets == own
    maps = [files(args)["motion_map_hash"] for args in (without, adapted)]
    assert [path.parent.name for (path,) in maps] == [model_name(without), "with_map"]


def model_name(args):
    return args.model_dir.rpartition("/")[2]


@pytest.mark.parametrize("file", ["model_index.json", "scheduler/scheduler_config.json", "unet/config.json"])
def test_a_model_of_another_configuration_is_another_model(command, svd_base, tmp_path, file):
    frozen = ["--tasks", "frozen", "--model_dir", tmp_path / "model"]
    shutil.copytree(svd_base, tmp_path / "model")
    main(command(*frozen))
    (tmp_path / "model" / "training.json").write_text("{}")
    main(command(*frozen))
    with (tmp_path / "model" / file).open("a") as changed:
        changed.write("\n")
    with pytest.raises(FileExistsError, match="model_hash"):
        main(command(*frozen))


def test_results_from_before_an_option_are_those_without_it(command):
    folder = main(command("--tasks", "frozen"))
    path = folder / "settings.json"
    held = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in held.items() if name != "negative_motion_bucket_id"}))
    assert main(command("--tasks", "frozen")) == folder
    with pytest.raises(FileExistsError, match=r"negative_motion_bucket_id None, not 5\.0"):
        main(command("--tasks", "frozen", "--negative_motion_bucket_id", "5"))


def test_other_settings_or_judges_are_refused_without_overwrite(command, tmp_path, judges_dir):
    main(command("--tasks", "frozen"))
    with pytest.raises(FileExistsError, match="camera None, not 'pan'"):
        main(command("--tasks", "frozen", "--camera", "pan"))
    copy = tmp_path / "judges"
    shutil.copytree(judges_dir, copy)
    torch.manual_seed(1)
    save_judge(copy / "video.safetensors", VideoJudge((8, 8, 8)))
    with pytest.raises(FileExistsError, match="judges_"):
        main(command("--tasks", "frozen", "--judges_dir", copy))
    main(command("--tasks", "frozen", "--num_inference_steps", 3, "--overwrite"))


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--judges_dir", "absent"], "no judge absent/video.safetensors"),
        (["--model_dir", "absent"], "no model absent"),
        (["--lora", "absent"], "no --lora absent"),
        (["--num_swept", "5"], "--num_swept 5"),
        (["--buckets", "7", "7"], "two different"),
        (["--first_seed", "1999999"], "--first_seed 1999999: a training may have seen it, take 2000000 or more"),
        (["--num_frames", "1"], "--num_frames 1"),
        (["--resolution", "20"], "--resolution 20 is not a multiple of 8"),
        (["--max_guidance_scale", "nan"], "max_guidance_scale nan"),
        (["--compare_to", "absent"], "--compare_to absent"),
    ],
)
def test_what_cannot_work_is_refused_before_any_work(command, tmp_path, more, sentence):
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        main(command(*more))
    assert not (tmp_path / "out").exists()


def test_true_clips_are_the_beginning_of_those_that_models_learn_from_and_are_rendered_once(tmp_path, monkeypatch):
    clips = TrueClips(str(tmp_path), 2_000_000, num_frames=2, resolution=16)
    rendering = render_clip(sample_clip(2_000_001, 16), 16)
    pixels = torch.from_numpy(rendering.video[:2]).permute(0, 3, 1, 2) / 127.5 - 1
    torch.testing.assert_close(clips.videos(range(1, 2))[0], pixels)
    assert (clips.objects(range(1, 2))[0].numpy() == (rendering.labels[0] >= 0)).all()
    monkeypatch.setattr("benchmarks.svd_clips.sample_clip", lambda *a, **k: pytest.fail("rendered again"))
    again = TrueClips(str(tmp_path), 2_000_000, num_frames=2, resolution=16)
    assert torch.equal(again.videos(range(AT_ONCE)), clips.videos(range(AT_ONCE)))


def make_results(truth, samples, sweep=None, **settings):
    """Rows with the given motions and features; object motion is half of the motion."""

    def rows(motions, features):
        return [
            {"features": list(f), "motion": m, "object_motion": m / 2, "consistency": 1.0, "camera": "pan"}
            for m, f in zip(motions, features, strict=True)
        ]

    found = {"truth": rows(*truth), "samples": rows(*samples)}
    if sweep is not None:
        found["buckets"] = rows(sweep, np.zeros((len(sweep), 2)))
    return Results(settings, found, {})


def test_figures_of_known_rows():
    rng = np.random.default_rng(0)
    features, motions = rng.normal(size=(400, 2)), rng.uniform(1, 2, 400)
    shifted = features + [3.0, 4.0]
    found = summarize(make_results((motions, features), (0.8 * motions, shifted)))
    assert found["samples"]["fvd"].mean == pytest.approx(25, rel=1e-6)  # |(3, 4)|²
    assert found["samples"]["motion_ratio"].mean == pytest.approx(0.8)
    assert found["samples"]["motion_error"].mean == pytest.approx(0.2 * motions.mean())
    assert found["samples"]["judged_pan"].mean == 1 and found["samples"]["judged_still"].mean == 0
    assert found["truth"]["fvd_of_halves"].mean < 0.1


def test_motion_that_grows_with_the_bucket_has_rank_correlation_one():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(4, 2)), np.ones(4)
    pair = (values[1], values[0])
    rising = summarize(make_results(pair, pair, sweep=[1, 2, 3, 2, 4, 6], buckets=[10, 20, 30]))["buckets"]
    assert rising["object_motion_rank_correlation"].mean == 1
    assert 0.7 < rising["object_motion_rank_correlation_pooled"].mean < 1
    assert rising["motion_at_20"].mean == 3
    falling = summarize(make_results(pair, pair, sweep=[3, 2, 1, 6, 4, 2], buckets=[10, 20, 30]))["buckets"]
    assert falling["object_motion_rank_correlation"].mean == -1


def test_a_model_that_came_nearer_to_the_true_clips_has_a_negative_difference():
    rng = np.random.default_rng(0)
    features, motions = rng.normal(size=(100, 2)), np.ones(100)
    near, far = ((motions, features + shift) for shift in (0.5, 2.0))
    found = summarize(make_results((motions, features), near), make_results((motions, features), far))
    change = found["samples - samples before"]["fvd"]
    assert change.mean == pytest.approx(2 * (0.25 - 4))
    assert change.high < 0
    with pytest.raises(ValueError, match="other clips"):
        summarize(make_results((motions, features + 1), near), make_results((motions, features), far))
