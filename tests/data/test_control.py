"""Controls over time: what they show, and that they go through all that their clip goes through."""

import json
import random
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from utils.data.clip_geometry import ClipGeometry
from utils.data.clip_latents import Stretches, read_cached_clips
from utils.data.clip_options import ClipOptions
from utils.data.control import MAX_FLOW, ControlImages, control_images
from utils.data.control_files import ControlFrames
from utils.data.extras import annotations
from utils.data.svd_clips import SVDClips
from utils.data.video_records import read_video_records
from utils.data.videos import VideoDataset
from utils.depth import read_depth
from utils.edges import canny_edges
from utils.flow.warp import flip_flow
from utils.motion_helper import PROCEDURAL
from utils.scenes.labels import LABEL_COLORS
from utils.video import to_pixels, write_video

SIZE = 32


@pytest.fixture(scope="module")
def folder(make_clips):
    """Two clips of 6 frames of 32x32 pixels, whose `control` is a video of their segmentation."""
    folder = make_clips(num_samples=2, num_frames=6, num_tracks=8, controls=["depth", "segmentation"])
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    for index, row in enumerate(rows):
        images = sorted((folder / row["segmentation_file_name"]).iterdir())
        frames = np.stack([np.asarray(Image.open(path)) for path in images])
        write_video(folder / f"control_{index}.mp4", frames, fps=8)
        row["control_file_name"] = f"control_{index}.mp4"
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def dataset(folder, kind, **options):
    extra = ControlImages(kind)
    known = {"num_frames": 3, "height": SIZE, "width": SIZE} | options
    clips = VideoDataset(read_video_records(folder), ClipOptions(**known), annotations([extra]))
    return clips, extra


@pytest.mark.parametrize("kind", ["depth", "segmentation", "edge", "folder", "flow"])
def test_a_control_is_mirrored_with_its_clip(folder, kind):
    clips, extra = dataset(folder, kind)
    plain, mirrored = (clips.sample(0, ClipGeometry(SIZE, SIZE, flip=flip)) for flip in (False, True))
    control, turned = (extra(sample)["control"] for sample in (plain, mirrored))
    assert control.shape == (3, 3, SIZE, SIZE) and control.abs().max() <= 1
    assert torch.equal(mirrored["pixel_values"], plain["pixel_values"].flip(-1))
    expected = control.flip(-1)
    if kind == "flow":
        expected = control_images("flow", flip_flow(plain["flow"]))
        assert not torch.equal(expected, control.flip(-1))
    if kind == "edge":
        expected = torch.stack([canny_edges(frame) for frame in mirrored["pixel_values"]])
    assert torch.equal(turned, expected)


@pytest.mark.parametrize("size", [(16, 24), (SIZE, SIZE), (40, 56)])
def test_a_control_has_the_size_crop_flip_stretch_and_direction_of_its_clip(folder, size):
    """The frames as their own control are the frames, whatever is drawn."""
    drawn = {"frame_strides": (1, 2), "random_reverse": True, "random_flip": True}
    clips, extra = dataset(folder, "folder", height=size[0], width=size[1], **drawn)
    clips.records = [replace(record, control=record.video) for record in clips.records]
    random.seed(0)
    samples = [clips[0] for _ in range(12)]
    for sample in samples:
        assert torch.equal(extra(sample)["control"], sample["pixel_values"])
    assert len({sample["pixel_values"].sum().item() for sample in samples}) > 6


def test_colours_of_a_segmentation_are_not_mixed_by_resizing(folder):
    clips, extra = dataset(folder, "segmentation", height=20, width=20)
    control = extra(clips.sample(0, ClipGeometry(20, 20)))["control"]
    colors = {tuple(color) for color in control.permute(0, 2, 3, 1).reshape(-1, 3).tolist()}
    assert len(colors) >= 3
    assert colors <= {tuple(value / 127.5 - 1 for value in color) for color in LABEL_COLORS.values()}


def test_depth_is_normalised_over_the_video_and_nearest_is_1(folder):
    clips, extra = dataset(folder, "depth", num_frames=6)
    control = extra(clips.sample(0, ClipGeometry(SIZE, SIZE)))["control"]
    files = sorted((folder / "depth/0000000").iterdir())
    disparity = 1 / np.stack([read_depth(path) for path in files])
    expected = (disparity - disparity.min()) / (disparity.max() - disparity.min()) * 2 - 1
    assert np.allclose(control[:, 0], expected, atol=1e-5)
    assert control.max() == 1 and control.min() == -1 and torch.equal(control[:, 0], control[:, 2])


def test_the_control_of_flow_is_a_share_of_the_side_and_says_where_it_is_known():
    flow = torch.zeros(2, 2, 16, 32)
    flow[:, 0], flow[1, 1] = MAX_FLOW * 16, -100
    control = control_images("flow", flow)
    assert control.shape == (3, 3, 16, 32) and (control[:, 2] == 1).all()
    assert (control[:, 0] == 1).all() and (control[1, 1] == -1).all() and (control[0, 1] == 0).all()
    assert torch.equal(control[2], control[1])
    doubled = torch.nn.functional.interpolate(2 * flow, scale_factor=2)
    assert torch.equal(control_images("flow", doubled)[..., ::2, ::2], control)


@pytest.mark.parametrize("kind", ["depth", "segmentation", "edge", "folder", "flow"])
def test_a_cached_clip_has_the_same_control(folder, kind, tiny_svd, tmp_path):
    clips, extra = dataset(folder, kind, num_frames=6, center_crop=True, random_flip=True)
    cached = read_cached_clips(clips, tiny_svd.vae, tmp_path, Stretches(6), PROCEDURAL, [extra])
    plain = [extra(clips.sample(0, ClipGeometry(SIZE, SIZE, flip=flip)))["control"] for flip in (False, True)]
    for _ in range(4):
        found = SVDClips(cached, PROCEDURAL, [extra])[0]["control"]
        assert any(torch.allclose(found, one, atol=2e-3) for one in plain)


def test_gray_images_and_videos_are_disparity(tmp_path):
    frames = np.zeros((2, 8, 8, 3), np.uint8)
    frames[1, :, 4:] = 255
    (tmp_path / "gray").mkdir()
    for index, frame in enumerate(frames):
        Image.fromarray(frame[..., 0]).save(tmp_path / f"gray/{index}.png")
    write_video(tmp_path / "gray.mp4", frames, fps=8, crf=0)
    for name in ("gray", "gray.mp4"):
        disparity = ControlFrames(tmp_path / name, depth=True).read([0, 1])
        assert disparity.shape == (2, 1, 8, 8)
        assert torch.allclose(disparity[:, 0], to_pixels(frames)[:, 0], atol=0.05)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(tmp_path / "gray/1.png")
    with pytest.raises(ValueError, match="is coloured; a depth image has one channel"):
        ControlFrames(tmp_path / "gray", depth=True).read([0, 1])


def test_a_control_that_does_not_fit_its_clip_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "clips")
    place = tmp_path / "clips/segmentation/0000000"
    clips, _ = dataset(tmp_path / "clips", "segmentation")
    Image.new("RGB", (16, 16)).save(place / "00001.png")
    with pytest.raises(ValueError, match="frame 1 is 16x16 and those before it 32x32"):
        clips.sample(0, ClipGeometry(SIZE, SIZE))
    (place / "00005.png").unlink()
    with pytest.raises(ValueError, match="has 5 frames and .* 6 frames: a segmentation has one for each frame"):
        clips.sample(0, ClipGeometry(SIZE, SIZE))
    shutil.rmtree(place)
    with pytest.raises(FileNotFoundError, match="no video and no folder of images"):
        clips.sample(0, ClipGeometry(SIZE, SIZE))
    for path in sorted((tmp_path / "clips/depth/0000000").iterdir()):
        Image.new("L", (16, 16)).save(path)
    with pytest.raises(ValueError, match="is 16x16 and .* 32x32: bring them to one size"):
        dataset(tmp_path / "clips", "depth")[0].sample(0, ClipGeometry(SIZE, SIZE))


@pytest.mark.parametrize("kind", ["depth", "segmentation", "folder"])
def test_clips_without_the_control_are_refused_with_what_to_write(procedural, kind):
    name = "control" if kind == "folder" else kind
    with pytest.raises(ValueError, match=f"has no {name}; name its folder or video in .* as {name}_file_name"):
        dataset(procedural, kind)
