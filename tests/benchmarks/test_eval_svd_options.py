"""What the options of run_svd do to figures of known value."""

import json

import torch

from benchmarks.eval_svd_options import figures, main
from tests.tiny_video_pipeline import tiny_video_pipeline


def test_flicker_and_sharpness_of_known_videos():
    stripes = torch.ones(16, 16)
    stripes[:, ::2] = -1
    still = stripes.expand(4, 3, 16, 16)
    assert figures(still) == {"flow": 0, "flicker": 0, "sharpness": 1}  # every step across is 2, down 0
    blinking = still * torch.tensor([1.0, -1, 1, -1])[:, None, None, None]
    assert figures(blinking)["flicker"] == 4


def test_smoothing_and_no_motion_are_measured_as_less_flicker(tmp_path):
    tiny_video_pipeline().save_pretrained(tmp_path / "model")
    arguments = ["--model_dir", tmp_path / "model", "--output_dir", tmp_path / "out", "--resolution", 32]
    arguments += ["--num_clips", 2, "--num_inference_steps", 1, "--temporal_smoothing", 0, 1, "--motion_scale", 0, 1]
    folder = main([str(part) for part in arguments])
    results = json.loads((folder / "results.json").read_text())["results"]
    assert list(results) == ["plain", "temporal_smoothing 1", "motion_scale 0"]
    flicker = {name: found["flicker"]["mean"] for name, found in results.items()}
    assert flicker["motion_scale 0"] < flicker["plain"]  # equal latents, which a decoder over time does not draw equal
    assert flicker["temporal_smoothing 1"] < flicker["plain"]
