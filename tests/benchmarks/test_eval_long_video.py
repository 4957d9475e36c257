"""The comparison of ways to make a long video: complete, resumable, refusing what does not fit."""

import pytest
import torch
from PIL import Image

from benchmarks.eval_long_video import files, main, parser
from benchmarks.long_video_tasks import LongBench
from pipelines.long_video import LongVideo, segment_starts
from tests.flags import flags


@pytest.fixture
def command(svd_base, judges_dir, tmp_path):
    """Arguments of a small evaluation."""
    values = {"model_dir": svd_base, "judges_dir": judges_dir, "output_dir": tmp_path / "out", "num_clips": 2}
    values |= {"batch_size": 1, "total_frames": 7, "num_inference_steps": 1, "resolution": 32}
    return lambda *more: flags(*more, **values)


def test_it_compares_truth_overlap_and_restart_and_goes_on_where_it_stopped(command, read):
    folder = main(command())
    results = read(folder)
    assert list(results) == ["truth", "overlap", "restart"]
    assert [key for key in results["overlap"] if key.startswith("color_")] == ["color_1", "color_2"]
    assert results["overlap"]["color_1"]["mean"] == 0
    assert {"seam_jump", "seam_flicker", "consistency"} <= set(results["restart"])
    assert Image.open(folder / "sheet.png").size == (7 * 32, 3 * 32)
    Image.open(folder / "results.png").verify()

    kept = folder / "partial" / "overlap" / "000000.json"
    kept.write_text(kept.read_text().replace('"consistency": ', '"consistency": 7'))
    (folder / "partial" / "restart" / "000001.json").unlink()
    main(command())
    again = read(folder)
    assert again["restart"] == results["restart"]
    assert again["overlap"]["consistency"]["mean"] > 7


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--total_frames", "4"], "one segment: take more than 4"),
        (["--overlap_frames", "4"], "overlap_frames 4 is not allowed: pass 1 to 3"),
        (["--first_seed", "5"], "--first_seed 5: a training may have seen it"),
        (["--resolution", "20"], "--resolution 20 is not a multiple of 8"),
        (["--negative_motion_bucket_id", "300"], "negative_motion_bucket_id 300 is not allowed"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_loaded(command, monkeypatch, more, message):
    monkeypatch.setattr(LongBench, "load", lambda bench, kind: pytest.fail("loaded"))
    with pytest.raises(ValueError, match=message):
        main(command(*more))


def test_the_unconditional_prediction_may_have_another_bucket(command, read):
    arguments = ["--num_clips", 1, "--max_guidance_scale", 3]
    usual = read(main(command(*arguments)))
    lower = read(main(command(*arguments, "--negative_motion_bucket_id", 0, "--overwrite")))
    assert usual["restart"] != lower["restart"]


@pytest.fixture
def bench(command):
    """As of a model of 8 frames, 2 of which are shared, for videos of 20."""
    bench = LongBench(parser().parse_args(command()))
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


def test_results_belong_to_the_model_and_to_the_judge_that_is_asked(command):
    decides = files(parser().parse_args(command()))
    assert [path.name for path in decides["judge_hash"]] == ["attributes.safetensors"]
    assert {"scheduler_config.json", "model_index.json"} <= {path.name for path in decides["model_hash"]}
