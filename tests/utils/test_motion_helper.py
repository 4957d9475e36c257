"""Motion scores and the bucket ids made of them."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.seeded_unimatch import make_model
from utils.data.fit_motion_buckets import main
from utils.flow import flow_estimator
from utils.motion_helper import (
    PROCEDURAL,
    MotionBuckets,
    cal_motion_bucket_ids,
    fixed_motion_ids,
    motion_scores,
)

LINE = MotionBuckets(scale=10.0, offset=5.0, short_side=64)


def constant_flow(x=1.0, y=0.0):
    """An estimator that sees the same motion everywhere, and keeps the shapes of the videos it was given."""

    def estimate(video):
        estimate.shapes.append(tuple(video.shape))
        F, _, H, W = video.shape
        return torch.tensor([x, y]).view(1, 2, 1, 1).expand(F - 1, 2, H, W)

    estimate.shapes = []
    return estimate


def sliding(speed, num_frames=9, size=64):
    """A clip (F, 3, H, W) of waves that move right by `speed` pixels a frame."""
    x = torch.arange(size) - speed * torch.arange(num_frames).view(-1, 1)
    waves = torch.sin(x * 0.4)[:, None, :] * torch.cos(torch.arange(size) * 0.3)[None, :, None]
    return 0.8 * waves[:, None].expand(-1, 3, -1, -1)


def test_the_score_is_the_mean_length_at_the_stated_size():
    estimate = constant_flow(3.0, 4.0)
    assert motion_scores(estimate, torch.zeros(2, 5, 3, 32, 48), 8, short_side=64).tolist() == pytest.approx([5, 5])
    assert estimate.shapes == [(5, 3, 64, 96)] * 2


def test_frames_a_time_step_apart_are_matched_and_the_rest_of_the_step_is_scaled():
    estimate = constant_flow(2.0)
    scores = motion_scores(estimate, torch.zeros(3, 9, 3, 64, 64), torch.tensor([8.0, 24.0, 4.0]), 64, time_step=0.125)
    assert [shape[0] for shape in estimate.shapes] == [9, 3, 9], "every frame, every third, every frame"
    assert scores.tolist() == pytest.approx([2, 2, 1]), "at 4 fps a step is twice as long as asked for"


def test_steady_motion_scores_the_same_at_any_frame_rate_and_size():
    dis = flow_estimator()
    slow = motion_scores(dis, sliding(2.0)[None], 8, short_side=64)
    fast = motion_scores(dis, sliding(1.0, num_frames=17)[None], 16, short_side=64)
    large = motion_scores(dis, torch.nn.functional.interpolate(sliding(2.0), (128, 128))[None], 8, short_side=64)
    assert slow.item() == pytest.approx(2.0, abs=0.4)
    assert fast.item() == pytest.approx(slow.item(), rel=0.1)
    assert large.item() == pytest.approx(slow.item(), rel=0.1)


def test_ids_lie_on_the_line_and_inside_0_to_255():
    assert LINE.ids(torch.tensor([0.0, 1.0, 2.04, 30.0, -3.0])).tolist() == [5, 15, 25, 255, 0]
    ids = cal_motion_bucket_ids(constant_flow(2.0), torch.zeros(2, 4, 3, 64, 64), 8, LINE)
    assert ids.dtype == torch.int64
    assert ids.tolist() == [25, 25]


def test_faster_clips_get_larger_ids_by_the_default_map():
    clips = torch.stack([sliding(speed) for speed in (0.0, 0.5, 1.0)])
    ids = cal_motion_bucket_ids(flow_estimator(), clips, fps=8)
    assert ids[0] == 0
    assert ids[0] < ids[1] < ids[2]
    assert PROCEDURAL.num_clips > 100


def test_a_unimatch_network_is_taken_as_it_is():
    clip = sliding(1.0, num_frames=3)[None]
    buckets = MotionBuckets(1.0, 0.0, short_side=32)
    ids = cal_motion_bucket_ids(make_model("scale1"), clip, 8, buckets)
    assert ids.shape == (1,)


def test_fixed_ids_are_those_of_the_pipeline_whatever_the_clip():
    fps, buckets = fixed_motion_ids(torch.zeros(3, 4, 3, 8, 8))
    assert fps.tolist() == [7, 7, 7]
    assert buckets.tolist() == [127, 127, 127]


def test_a_fit_brings_its_percentiles_to_the_ends():
    scores = torch.linspace(1, 5, 101)
    buckets = MotionBuckets.fit(scores, (25, 75))
    assert buckets.ids(torch.tensor([2.0, 3.0, 4.0])).tolist() == [0, 128, 255]
    assert buckets.num_clips == 101
    with pytest.raises(ValueError, match="move alike, by 2 px"):
        MotionBuckets.fit(torch.full((5,), 2.0))
    with pytest.raises(ValueError, match=r"\(95, 5\) have to rise"):
        MotionBuckets.fit(scores, (95, 5))


def test_constants_travel_with_the_weights(tmp_path):
    LINE.save(tmp_path)
    assert (tmp_path / "motion_buckets.json").is_file()
    assert MotionBuckets.load(tmp_path) == LINE
    assert MotionBuckets.load(tmp_path / "motion_buckets.json") == LINE
    with pytest.raises(FileNotFoundError, match="fit one with"):
        MotionBuckets.load(tmp_path / "nothing")
    fields = json.loads((tmp_path / "motion_buckets.json").read_text())
    for other in (b'{"scale": 1}', b"nonsense", b"\xff", b"[1]", json.dumps({**fields, "scale": None}).encode()):
        (tmp_path / "other.json").write_bytes(other)
        with pytest.raises(ValueError, match="other.json holds no motion buckets"):
            MotionBuckets.load(tmp_path / "other.json")


@pytest.mark.parametrize(
    ("shape", "fps", "message"),
    [
        ((4, 3, 8, 8), 8, r"\(B, F, 3, H, W\)"),
        ((1, 1, 3, 8, 8), 8, "F at least 2"),
        ((1, 4, 3, 8, 8), 0, "fps=0.0"),
        ((2, 4, 3, 8, 8), torch.tensor([8.0, 8.0, 8.0]), "each of 2 clips, not 3"),
    ],
)
def test_other_clips_are_refused(shape, fps, message):
    with pytest.raises(ValueError, match=message):
        motion_scores(constant_flow(), torch.zeros(shape), fps)


def test_pixels_of_another_range_are_refused_by_a_unimatch_network_too():
    with pytest.raises(ValueError, match=r"pixels in \[-1, 1\]"):
        motion_scores(make_model("scale1"), torch.full((1, 2, 3, 32, 32), 200.0), 8)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--percentiles", "95", "5"), r"\(95.0, 5.0\) have to rise"),
        (("--max_frames", "1"), "--max_frames 1: motion needs 2"),
        (("--checkpoint", "x.pth"), "--checkpoint x.pth does not belong to --backend dis"),
        (("--backend", "unimatch"), "--backend unimatch needs a --checkpoint"),
    ],
)
def test_the_command_refuses_flags_before_it_looks_for_clips(tmp_path, flags, message):
    with pytest.raises(ValueError, match=message):
        main(["--train_data_dir", str(tmp_path / "absent"), "--output_path", str(tmp_path), *flags])


def test_the_command_fits_a_folder_and_keeps_what_is_there(tmp_path, capsys):
    for number, speed in enumerate((0.0, 0.5, 1.0, 2.0)):
        folder = tmp_path / "clips" / f"{number}"
        folder.mkdir(parents=True)
        for t, frame in enumerate(sliding(speed, num_frames=4)):
            picture = ((frame.permute(1, 2, 0).numpy() + 1) * 127.5).round().astype(np.uint8)
            Image.fromarray(picture).save(folder / f"{t:05d}.png")
    options = ["--train_data_dir", tmp_path / "clips", "--output_path", tmp_path / "weights", "--short_side", 64]
    options += ["--frame_folder_fps", 8, "--percentiles", 0, 100]
    main([*map(str, options)])
    content = json.loads((tmp_path / "weights" / "motion_buckets.json").read_text())
    assert content["num_clips"] == 4
    assert content["backend"] == "dis"
    assert 255 / content["scale"] == pytest.approx(2.0, abs=0.4), "from standing to 2 px a step"
    assert "bucket            0" in capsys.readouterr().out
    with pytest.raises(FileExistsError, match="--overwrite"):
        main([*map(str, options)])


def test_the_command_counts_a_clip_once_however_many_captions_it_has(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for name, speed in (("a", 1), ("b", 3)):
        (tmp_path / "clips" / name).mkdir(parents=True)
        for k in range(4):
            picture = np.roll(
                rng.integers(0, 255, (48, 48), dtype=np.uint8) * 0 + np.arange(48, dtype=np.uint8) * 5, k * speed
            )
            Image.fromarray(picture).convert("RGB").save(tmp_path / "clips" / name / f"{k}.png")
    rows = [{"video_folder": f"clips/{name}", "fps": 8, "text": text} for name in "ab" for text in "xyz"]
    (tmp_path / "clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    main(["--train_data_dir", str(tmp_path / "clips.jsonl"), "--output_path", str(tmp_path / "b.json")])
    assert "2 of 2 clips" in capsys.readouterr().out
    assert MotionBuckets.load(tmp_path / "b.json").num_clips == 2


@pytest.mark.parametrize("text", ["[" * 100_000, "[1]", '{"scale": NaN}', "{"])
def test_constants_that_are_none_are_refused_in_one_sentence(tmp_path, text):
    (tmp_path / "b.json").write_text(text)
    with pytest.raises(ValueError, match=r"b\.json holds no motion buckets"):
        MotionBuckets.load(tmp_path / "b.json")
