"""A clip, prepared and evaluated."""

import numpy as np
import pytest
from PIL import Image

from benchmarks.eval_clip_depth import disparity_error, main
from tests.flags import flags
from utils.data.pairs import PairDataset
from utils.data.records import read_records


@pytest.fixture
def clip(tmp_path):
    """Four frames of noise, 40x40, the depth of each a ramp that leans over."""
    rng, folder = np.random.default_rng(0), tmp_path / "clip"
    folder.mkdir()
    for number in range(4):
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(folder / f"depthvid_rgb_{number}.png")
        ramp = np.add.outer(np.arange(40) * number, np.arange(40)).astype(np.uint8)
        Image.fromarray(ramp).save(folder / f"depthvid_depth_{number}.png")
    return folder


def test_the_training_frames_become_an_image_folder(clip, tmp_path):
    main(["prepare", "--frames_dir", str(clip), "--train_frames", "0-1", "--output_dir", str(tmp_path / "data")])
    samples = PairDataset(read_records(tmp_path / "data"), 32, "depth")
    assert len(samples) == 2
    assert samples[0]["conditioning_pixel_values"].shape == (3, 32, 32)


def test_the_adapter_stands_beside_a_constant_and_the_last_training_frame(clip, folders, read, tmp_path):
    out = tmp_path / "out"
    values = {"pretrained_model_name_or_path": folders.model, "adapter": folders.adapters / "depth.safetensors"}
    values |= {
        "train_frames": "0-1",
        "test_frames": "2-3",
        "resolution": 32,
        "num_samples": 2,
        "num_inference_steps": 2,
    }
    main(["evaluate", *flags(**values, frames_dir=clip, output_dir=out)])
    results = read(out)
    assert list(results) == ["adapter", "constant", "depth of frame 1"]
    assert all(list(row) == ["error", "frame_2", "frame_3"] for row in results.values())
    adapter = results["adapter"]
    assert adapter["error"] == pytest.approx((adapter["frame_2"] + adapter["frame_3"]) / 2)
    assert Image.open(out / "frames.png").size == (2 * 32 * 3, 4 * 32 * 3)


def test_an_affine_map_of_the_truth_has_no_error_and_a_constant_that_of_the_mean():
    truth = np.linspace(-1, 1, 64).reshape(8, 8)
    assert disparity_error(3 * truth + 1, truth) == pytest.approx(0, abs=1e-12)
    assert disparity_error(np.zeros((8, 8)), truth) == pytest.approx(np.abs(truth).mean() / 2)


def test_a_folder_with_content_is_left_alone(clip, tmp_path):
    with pytest.raises(FileExistsError, match="choose another --output_dir"):
        main(["prepare", "--frames_dir", str(clip), "--output_dir", str(clip)])


def test_a_missing_frame_or_adapter_is_named_before_any_work(clip, tmp_path):
    with pytest.raises(FileNotFoundError, match="no frame .*depthvid_rgb_5.png"):
        main(["evaluate", *flags(frames_dir=clip, output_dir=tmp_path / "out")])
    with pytest.raises(FileNotFoundError, match="no --adapter absent"):
        main(
            [
                "evaluate",
                *flags(
                    frames_dir=clip,
                    output_dir=tmp_path / "out",
                    train_frames="0-1",
                    test_frames="2-3",
                    adapter="absent",
                ),
            ]
        )
