"""How steady depth of a video is."""

import numpy as np
import pytest

from benchmarks.eval_depth_video import figures, main
from tests.flags import flags


def test_only_places_that_stand_still_count():
    metres = np.full((2, 4, 4), 2.0)
    metres[:, :2] = 4.0
    labels = np.full((2, 4, 4), -1)
    labels[1, 0, 0], metres[1, 0, 0] = 0, 1.0  # something came in front
    depth = np.where(metres == 4.0, -1.0, 1.0)
    depth[1, 3] -= 0.4
    found = figures(depth, metres, labels)
    assert found["change"] == pytest.approx(100 * 0.2 * 4 / 15)


def test_all_ways_are_measured_on_the_same_clips(folders, tmp_path, read):
    adapter = folders.adapters / "depth.safetensors"
    values = {"pretrained_model_name_or_path": folders.model, "adapter": adapter, "output_dir": tmp_path / "out"}
    values |= {"one_step_adapter": folders.estimator}
    results = read(main(flags(num_clips=1, num_frames=2, num_inference_steps=1, resolution=32, **values)))
    assert list(results) == ["truth", "own_noise", "same_noise", "aligned", "one_step"]
    assert results["truth"]["change"]["mean"] < 1 and results["truth"]["AbsRel"]["mean"] < 1e-3
    assert results["own_noise"]["change"]["mean"] > results["truth"]["change"]["mean"]
