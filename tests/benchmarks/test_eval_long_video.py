"""The comparison of ways to make a long video: complete, resumable, refusing what does not fit."""

import json

import pytest
from PIL import Image

from benchmarks.eval_long_video import main
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
