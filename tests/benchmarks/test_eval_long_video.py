"""The comparison of ways to make a long video: complete, resumable, refusing what does not fit."""

import json

import pytest
import torch
from PIL import Image

from benchmarks.eval_long_video import Bench, main, parser, settings
from pipelines.long_video import LongVideo, segment_starts
from tests.tiny_video_pipeline import tiny_video_pipeline
from utils.judges.networks import AttributeJudge
from utils.judges.storage import save_judge


@pytest.fixture
def arguments(tmp_path):
    tiny_video_pipeline().save_pretrained(tmp_path / "model")
    save_judge(tmp_path / "judges" / "attributes.safetensors", AttributeJudge((8, 8, 8)))
    files = ["--model_dir", "model", "--judges_dir", "judges", "--output_dir", "out"]
    files = [str(tmp_path / part) if not part.startswith("--") else part for part in files]
    return [*files, "--num_clips", "2", "--batch_size", "1", "--total_frames", "7", "--num_inference_steps", "1",
            "--resolution", "32"]  # fmt: skip


def test_it_compares_truth_overlap_and_restart_and_goes_on_where_it_stopped(arguments, tmp_path):
    folder = main(arguments)
    results = json.loads((folder / "results.json").read_text())["results"]
    assert list(results) == ["truth", "overlap", "restart"]
    assert [key for key in results["overlap"] if key.startswith("color_")] == ["color_1", "color_2"]
    assert results["overlap"]["color_1"]["mean"] == 0
    assert {"seam_jump", "seam_flicker", "consistency"} <= set(results["restart"])
    assert Image.open(folder / "sheet.png").size == (7 * 32, 3 * 32)
    Image.open(folder / "results.png").verify()

    kept = folder / "partial" / "overlap" / "000000.json"
    kept.write_text(kept.read_text().replace('"consistency": ', '"consistency": 7'))
    (folder / "partial" / "restart" / "000001.json").unlink()
    main(arguments)
    again = json.loads((folder / "results.json").read_text())["results"]
    assert again["restart"] == results["restart"]
    assert again["overlap"]["consistency"]["mean"] > 7


def test_one_segment_is_refused(arguments):
    with pytest.raises(ValueError, match="one segment: take more than 4"):
        main([*arguments, "--total_frames", "4"])


def test_scenes_that_a_training_may_have_seen_are_refused(arguments):
    with pytest.raises(ValueError, match="--first_seed 5: a training may have seen it"):
        main([*arguments, "--first_seed", "5"])


@pytest.fixture
def bench(arguments):
    """As of a model of 8 frames, 2 of which are shared, for videos of 20."""
    bench = Bench(parser().parse_args(arguments))
    bench.overlap, bench.starts = 2, segment_starts(20, 8, 2)
    return bench


def lighter_at(frames):
    """A grey video that becomes lighter at some frames."""
    video = torch.zeros(1, 20, 3, 32, 32)
    for frame in frames:
        video[:, frame:] += 0.2
    return video


def test_a_jump_at_the_seams_is_as_large_in_a_restart_as_in_an_overlap(bench):
    ways = [segment_starts(20, 8, shared) for shared in (2, 1)]
    assert ways == [(0, 8, 14), (0, 8, 15)]
    videos = [LongVideo(lighter_at(starts[1:]), starts) for starts in ways]
    overlap, restart = (bench.measure(lambda seeds, v=video: v, range(1))[0][0] for video in videos)
    for name in ("jump", "flicker"):
        assert overlap[f"{name}_across"] == pytest.approx(restart[f"{name}_across"], rel=1e-5)
        assert overlap[f"{name}_across"] > 0.05 and overlap[f"{name}_elsewhere"] == 0


def test_drift_is_measured_over_the_same_frames_in_both_ways(bench):
    ways = [LongVideo(lighter_at([9, 16]), segment_starts(20, 8, shared)) for shared in (2, 1)]
    overlap, restart = (bench.measure(lambda seeds, v=video: v, range(1))[0][0] for video in ways)
    drifts = [key for key in overlap if key.startswith(("color_", "content_", "motion_"))]
    assert len(drifts) == 9 and overlap["color_3"] > overlap["color_2"] > 0
    assert {key: overlap[key] for key in drifts} == {key: restart[key] for key in drifts}


def test_videos_are_measured_as_a_file_holds_them_in_eight_bits(bench):
    video = lighter_at([8])
    video = (video * 127.5).round() / 127.5
    noisy = video + torch.rand(video.shape, generator=torch.Generator().manual_seed(0)) * 2e-3
    found = [bench.measure(lambda seeds, v=v: LongVideo(v, (0, 8, 14)), range(1))[0] for v in (video, noisy)]
    assert found[0] == found[1]


def test_results_belong_to_the_model_and_to_the_judge_that_is_asked(arguments, tmp_path):
    args = parser().parse_args(arguments)
    before = settings(args)
    (tmp_path / "judges" / "depth.safetensors").write_bytes(b"of no use here")
    assert settings(args) == before
    with (tmp_path / "model" / "scheduler" / "scheduler_config.json").open("a") as changed:
        changed.write("\n")
    assert {key for key, value in settings(args).items() if value != before[key]} == {"model_hash"}
