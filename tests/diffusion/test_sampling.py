"""One description of a sampling: its flags, its ranges, its way into a call."""

import argparse
import json
import math
from dataclasses import fields

import pytest
import torch

from utils.diffusion.sampling import (
    SAMPLING_FILE,
    FlowSampling,
    ImageSampling,
    VideoSampling,
    add_sampling_arguments,
    common_sampling,
    model_sampling,
    parse_sampling_args,
)

NUMBERS = [
    (kind, one)
    for kind in (VideoSampling, FlowSampling, ImageSampling)
    for one in fields(kind)
    if one.name != "flow_first"
]


def parser(*kinds, **defaults):
    result = argparse.ArgumentParser()
    for kind in kinds:
        add_sampling_arguments(result, kind, **defaults)
    return result


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("kind", "one"), NUMBERS, ids=[one.name for _, one in NUMBERS])
def test_no_number_may_be_nan_or_infinite(kind, one, value):
    with pytest.raises(ValueError, match=f"{one.name} .* is not allowed: pass ") as refused:
        kind(**{one.name: value})
    assert "\n" not in str(refused.value)
    if one.metadata["rule"].per_sample:
        with pytest.raises(ValueError, match=one.name):
            kind(**{one.name: torch.tensor([1.0, value])})


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (VideoSampling, {"motion_bucket_id": 256}, "motion_bucket_id 256 is not allowed: .* from 0 to 255"),
        (VideoSampling, {"motion_bucket_id": (0, 255, -1)}, "motion_bucket_id -1"),
        (VideoSampling, {"negative_motion_bucket_id": 255.5}, "negative_motion_bucket_id 255.5 .* from 0 to 255"),
        (VideoSampling, {"negative_motion_bucket_id": 5, "max_guidance_scale": 1}, "needs guidance"),
        (
            VideoSampling,
            {"guidance_min_sigma": 3, "guidance_max_sigma": 2},
            "guidance_max_sigma 2 is below guidance_min_sigma 3",
        ),
        (VideoSampling, {"eta": 1.1}, "eta 1.1 .* from 0 to 1"),
        (VideoSampling, {"eta": 0.5, "solver_order": 2}, "eta 0.5 goes with steps of Euler"),
        (VideoSampling, {"motion_bucket_scale": -1}, "motion_bucket_scale -1"),
        (VideoSampling, {"guidance_parallel": 1.5}, "guidance_parallel 1.5 .* from 0 to 1"),
        (VideoSampling, {"num_inference_steps": 0}, "num_inference_steps 0 .* a whole number of 1 or more"),
        (VideoSampling, {"num_inference_steps": 2.5}, "num_inference_steps 2.5"),
        (VideoSampling, {"solver_order": 3}, "solver_order 3 is not allowed: pass 1 or 2"),
        (VideoSampling, {"fps": 0}, "fps 0 is not allowed: pass a finite number above 0"),
        (VideoSampling, {"fps": "fast"}, "fps 'fast'"),
        (VideoSampling, {"fps": None}, "fps None"),
        (VideoSampling, {"noise_aug_strength": -0.1}, "noise_aug_strength -0.1"),
        (VideoSampling, {"max_guidance_scale": -1}, "max_guidance_scale -1"),
        (FlowSampling, {"flow_strength": 1.5}, "flow_strength 1.5 .* from 0 to 1"),
        (FlowSampling, {"flow_guidance_scale": 0}, "flow_guidance_scale 0 .* above 0"),
        (FlowSampling, {"flow_first": "yes"}, "flow_first 'yes' is not allowed: pass True or False"),
    ],
)
def test_what_is_out_of_its_range_is_refused(kind, values, message):
    with pytest.raises(ValueError, match=message):
        kind(**values)


def test_flags_without_values_are_the_defaults_and_values_arrive():
    args = parser(VideoSampling, FlowSampling).parse_args([])
    assert VideoSampling.from_args(args) == VideoSampling()
    assert FlowSampling.from_args(args) == FlowSampling()
    flags = [
        "--fps",
        "8",
        "--motion_bucket_id",
        "60.5",
        "--solver_order",
        "2",
        "--no-flow_first",
        "--flow_strength",
        "0.5",
    ]
    args = parser(VideoSampling, FlowSampling).parse_args(flags)
    assert VideoSampling.from_args(args) == VideoSampling(fps=8, motion_bucket_id=60.5, solver_order=2)
    assert FlowSampling.from_args(args) == FlowSampling(flow_first=False, flow_strength=0.5)


def test_other_defaults_and_flags_left_out():
    args = parser(VideoSampling, fps=8.0, leave_out=("motion_bucket_id",)).parse_args([])
    assert not hasattr(args, "motion_bucket_id")
    buckets = torch.tensor([3.0, 200.0])
    assert VideoSampling.from_args(args, motion_bucket_id=buckets) == VideoSampling(
        fps=8.0, motion_bucket_id=(3.0, 200.0)
    )
    with pytest.raises(TypeError, match="no field speed"):
        parser(VideoSampling, speed=1)


def test_every_help_names_its_default():
    text = " ".join(parser(VideoSampling).format_help().split())
    for one in fields(VideoSampling):
        assert f"--{one.name} " in text
    assert text.count("(default: ") == len(fields(VideoSampling))
    assert "(default: --motion_bucket_id)" in text
    assert "(default: 8.0)" in " ".join(parser(VideoSampling, fps=8.0).format_help().split())


def parse_for(folder, *flags):
    wanted = parser(VideoSampling)
    wanted.add_argument("--model_dir", default=str(folder))
    return VideoSampling.from_args(parse_sampling_args(wanted, list(flags)))


def test_a_model_has_defaults_of_its_own_which_flags_replace(tmp_path):
    assert parse_for(tmp_path) == VideoSampling()
    own = {"guidance_min_sigma": 0.3, "negative_motion_bucket_id": 0}
    (tmp_path / SAMPLING_FILE).write_text(json.dumps(own))
    assert model_sampling(tmp_path) == own
    assert parse_for(tmp_path) == VideoSampling(**own)
    assert parse_for(tmp_path, "--guidance_min_sigma", "0", "--fps", "9").guidance_min_sigma == 0
    assert parse_for(tmp_path, "--negative_motion_bucket_id", "none") == VideoSampling(guidance_min_sigma=0.3)
    assert parse_for(tmp_path, "--max_guidance_scale", "1").negative_motion_bucket_id is None
    assert not parse_for(tmp_path, "--min_guidance_scale", "1", "--max_guidance_scale", "1").guided
    assert parse_for(tmp_path, "--model_dir", "some/model-on-the-hub") == VideoSampling()
    (tmp_path / SAMPLING_FILE).write_text(json.dumps({"eta": 0.5}))
    assert (parse_for(tmp_path).eta, parse_for(tmp_path, "--solver_order", "2").eta) == (0.5, 0)
    (tmp_path / SAMPLING_FILE).write_text(json.dumps({"solver_order": 2}))
    assert (parse_for(tmp_path).solver_order, parse_for(tmp_path, "--eta", "0.5").solver_order) == (2, 1)


def test_several_weights_have_the_defaults_in_which_they_agree(tmp_path):
    for name, own in (("a", {"eta": 0.5, "fps": 9}), ("b", {"eta": 0.5, "fps": 8}), ("c", None)):
        (tmp_path / name).mkdir()
        if own:
            (tmp_path / name / SAMPLING_FILE).write_text(json.dumps(own))
    assert common_sampling([tmp_path / "a"]) == {"eta": 0.5, "fps": 9}
    assert common_sampling([tmp_path / "a", tmp_path / "b"]) == {"eta": 0.5}
    assert common_sampling([tmp_path / "a", tmp_path / "c"]) == common_sampling([tmp_path / "c"]) == {}


@pytest.mark.parametrize("text", ["[1]", "{", '{"speed": 1}', '{"solver_order": 3}'])
def test_a_file_of_defaults_that_holds_something_else_is_refused(tmp_path, text):
    (tmp_path / SAMPLING_FILE).write_text(text)
    with pytest.raises(ValueError, match=r"sampling.json is not a JSON object of fields of VideoSampling: "):
        parse_for(tmp_path)


def test_a_call_is_taken_apart_into_the_classes_that_its_options_are_fields_of():
    options = VideoSampling(fps=9).options() | FlowSampling(flow_solver_order=1).options() | {"num_frames": 4}
    video, rest = VideoSampling.take(options)
    flow, rest = FlowSampling.take(rest)
    assert (video, flow, rest) == (VideoSampling(fps=9), FlowSampling(flow_solver_order=1), {"num_frames": 4})
