"""Data sets of clips."""

import json

import numpy as np
import pytest
from PIL import Image

from utils.depth import read_depth
from utils.scenes import clip_caption, render_clip, sample_clip
from utils.scenes.labels import LABEL_COLORS, color_labels
from utils.scenes.write_clips import main


def test_a_written_data_set_holds_frames_flow_tracks_and_captions(tmp_path):
    folder = tmp_path / "clips"
    options = ["--num_samples", "2", "--seed", "5", "--num_frames", "3", "--resolution", "16", "--num_tracks", "6"]
    main(["--output_dir", str(folder), *options, "--write_truth"])
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    assert [row["seed"] for row in rows] == [5, 6]
    clip = sample_clip(6, 3)
    rendering = render_clip(clip, 16, num_tracks=6)
    assert rows[1]["text"] == clip_caption(clip)
    frames = sorted((folder / rows[1]["video_folder"]).iterdir())
    assert [frame.name for frame in frames] == ["00000.png", "00001.png", "00002.png"]
    assert (np.asarray(Image.open(frames[2])) == rendering.video[2]).all()
    flow = np.load(folder / rows[1]["flow_file_name"])
    assert flow.dtype == np.float16
    np.testing.assert_allclose(flow, rendering.flow, atol=4e-3)
    tracks = np.load(folder / rows[1]["tracks_file_name"])
    assert (tracks["tracks"] == rendering.tracks).all()
    assert (tracks["visible"] == rendering.visible).all()
    assert (np.load(folder / "truth/0000006.npz")["occluded"] == rendering.occluded).all()


def test_the_first_frames_of_longer_clips_and_one_camera_can_be_asked_for(tmp_path):
    options = ["--num_samples", "1", "--seed", "3", "--num_frames", "6", "--first_frames", "2", "--camera", "truck"]
    main(["--output_dir", str(tmp_path / "clips"), *options, "--resolution", "16", "--num_tracks", "2"])
    frames = sorted((tmp_path / "clips/videos/0000003").iterdir())
    clip = sample_clip(3, 6, camera="truck")
    assert len(frames) == 2
    row = json.loads((tmp_path / "clips/metadata.jsonl").read_text())
    assert row["camera"] == {"pan": 0.0, "truck": clip.camera_motion.truck, "dolly": 0.0}
    assert [one["color"] for one in row["objects"]] == [solid.color for solid in clip.scene.objects]
    assert (np.asarray(Image.open(frames[1])) == render_clip(clip, 16, num_tracks=2).video[1]).all()


def test_clips_take_the_numbers_of_objects_in_turn(tmp_path):
    options = ["--num_samples", "4", "--seed", "6", "--num_frames", "2", "--resolution", "16", "--num_tracks", "2"]
    main(["--output_dir", str(tmp_path / "clips"), *options, "--num_objects", "1", "2", "3"])
    rows = [json.loads(line) for line in (tmp_path / "clips/metadata.jsonl").read_text().splitlines()]
    assert [len(row["objects"]) for row in rows] == [1, 2, 3, 1]


@pytest.mark.parametrize(
    ("flag", "value"),
    [("--seed", "-1"), ("--num_frames", "1"), ("--texture", "2.0"), ("--first_frames", "17"), ("--first_frames", "1")],
)
def test_values_that_make_no_clip_are_refused_and_leave_nothing(tmp_path, flag, value):
    with pytest.raises(ValueError, match=f"{flag} {value}"):
        main(["--output_dir", str(tmp_path / "clips"), flag, value])
    assert not any(tmp_path.iterdir())


def test_an_existing_folder_of_clips_is_not_overwritten(tmp_path):
    with pytest.raises(FileExistsError, match="choose another --output_dir"):
        main(["--output_dir", str(tmp_path)])


def test_depth_and_labels_are_written_as_images_that_the_metadata_names(tmp_path):
    options = ["--num_samples", "1", "--seed", "5", "--num_frames", "3", "--resolution", "16", "--num_tracks", "6"]
    main(["--output_dir", str(tmp_path / "clips"), *options, "--controls", "depth", "segmentation"])
    row = json.loads((tmp_path / "clips/metadata.jsonl").read_text())
    rendering = render_clip(sample_clip(5, 3), 16, num_tracks=6)
    depth = sorted((tmp_path / "clips" / row["depth_file_name"]).iterdir())
    np.testing.assert_allclose([read_depth(path) for path in depth], rendering.depth, atol=6e-4)
    images = [Image.open(path) for path in sorted((tmp_path / "clips" / row["segmentation_file_name"]).iterdir())]
    assert (np.stack(images) == color_labels(rendering.labels)).all()
    assert len(set(LABEL_COLORS.values())) == len(LABEL_COLORS) == 5
