"""Points that are followed through clips: which are drawn, and that they move as the image does."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tiny_video_pipeline import tiny_video_pipeline
from utils.data.clip_latents import Stretches, read_cached_clips
from utils.data.points import PointChoice, Points, find_tracks
from utils.data.svd_clips import SVDClips
from utils.data.video_records import read_video_records
from utils.data.videos import ClipOptions, VideoDataset
from utils.training.seeding import SeededDataset
from utils.video import to_frames

H, W, COUNT = 32, 48, 9
ALL = PointChoice(num_points=1, num_other_points=0, moving_share=1.0)


@pytest.fixture(scope="module")
def dots(tmp_path_factory):
    """Two clips in which one pixel is white and moves, with its track; another track stays, hidden in frame 0."""
    folder = tmp_path_factory.mktemp("dots")
    rows = []
    for clip, (start, step) in enumerate([((20, 6), (1, 2)), ((28, 25), (-1, -2))]):
        places = np.array(start) + np.arange(COUNT)[:, None] * step
        (folder / f"{clip}").mkdir()
        for k, (x, y) in enumerate(places):
            frame = np.zeros((H, W, 3), np.uint8)
            frame[y, x] = 255
            Image.fromarray(frame).save(folder / f"{clip}/{k:05d}.png")
        tracks = np.stack([places, np.full_like(places, 5)], axis=1).astype(np.float32)
        visible = np.ones((COUNT, 2), bool)
        visible[0, 1] = False
        np.savez(folder / f"{clip}.npz", tracks=tracks, visible=visible)
        rows.append({"video_folder": f"{clip}", "fps": 8, "tracks_file_name": f"{clip}.npz"})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def read(folder, **options):
    options = {"num_frames": 4, "height": H, "width": H, "random_flip": True, **options}
    return VideoDataset(read_video_records(folder), ClipOptions(**options), ("tracks",))


def samples_of(clips, count=24):
    """Samples of many epochs; `image` is there, too."""
    seeded = SeededDataset(SVDClips(clips, None, [Points(ALL)]), 0)
    return [seeded[epoch, index] for epoch in range(count) for index in range(len(clips))]


def brightest(frames):
    """Places (F, 2), x then y, of the brightest pixels of (F, 3, H, W)."""
    flat = frames.mean(1).flatten(1).argmax(1)
    return torch.stack([flat % frames.shape[-1], flat // frames.shape[-1]], dim=-1).float()


def test_points_follow_crop_flip_step_and_direction_of_the_clip(dots):
    drawn, ways = 0, set()
    for sample in samples_of(read(dots, frame_strides=(1, 2), random_reverse=True)):
        for frame, point, seen in zip(sample["pixel_values"], sample["points"], sample["shown"], strict=True):
            if seen[0]:
                assert torch.equal(brightest(frame[None])[0], point[0])
                drawn += 1
        ways.add(tuple(sample["points"].diff(dim=0)[0, 0].tolist()))
    assert drawn > 100
    assert ways >= {(s * x * k, s * y * k) for s in (-1, 1) for k in (1, 2) for x, y in [(1, 2), (-1, 2)]}


def test_points_follow_the_resizing_of_the_clip(dots):
    for sample in samples_of(read(dots, height=2 * H, width=2 * H), 3):
        frame = sample["pixel_values"][0].mean(0) + 1
        rows, columns = torch.meshgrid(torch.arange(2.0 * H), torch.arange(2.0 * H), indexing="ij")
        if sample["shown"][0, 0] and frame.sum() > 0:
            middle = torch.stack([(frame * columns).sum(), (frame * rows).sum()]) / frame.sum()
            torch.testing.assert_close(middle, sample["points"][0, 0], atol=0.3, rtol=0)


def test_points_of_cached_clips_follow_them(dots, tmp_path):
    clips = read(dots, num_frames=COUNT, first_frames=True)
    vae = tiny_video_pipeline().vae
    stretches = Stretches(4, (1, 2), random_reverse=True)
    cached = read_cached_clips(clips, vae, tmp_path, stretches, None, [Points(ALL)])
    seen = 0
    for sample in samples_of(cached):
        assert sample["latents"].shape == (4, 4, H // 4, H // 4)
        if sample["shown"][0, 0]:
            assert torch.equal(brightest(sample["image"][None])[0], sample["points"][0, 0])
            seen += 1
    assert seen > 20
    ways = {tuple(sample["points"].diff(dim=0)[0, 0].tolist()) for sample in samples_of(cached)}
    assert ways >= {(s * x * k, s * y * k) for s in (-1, 1) for k in (1, 2) for x, y in [(1, 2), (-1, 2)]}
    before = sorted(path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy"))
    read_cached_clips(clips, vae, tmp_path, stretches, None, [Points(ALL)])
    assert sorted(path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")) == before


def test_clips_with_other_numbers_of_tracks_cannot_be_cached(dots, tmp_path):
    clips = read(dots, num_frames=COUNT, first_frames=True)
    path = tmp_path / "more.npz"
    np.savez(path, tracks=np.zeros((COUNT, 5, 2), np.float32), visible=np.ones((COUNT, 5), bool))
    object.__setattr__(clips.records[1], "tracks", path)
    with pytest.raises(ValueError, match=r"has tracks of \(9, 5, 2\) and the clips before it of \(9, 2, 2\)"):
        read_cached_clips(clips, tiny_video_pipeline().vae, tmp_path, Stretches(4), None, [Points(ALL)])


def test_points_of_flow_are_carried_along_while_they_are_seen():
    torch.manual_seed(0)
    first = torch.rand(1, 3, H, W) * 2 - 1
    frames = torch.cat([first.roll(2 * k, dims=-1) for k in range(4)])
    flow = torch.zeros(3, 2, H, W)
    flow[:, 0] = 2
    tracks, visible = find_tracks({"pixel_values": frames, "flow": flow})
    torch.testing.assert_close(tracks.diff(dim=0), torch.tensor([2.0, 0.0]).expand(3, len(tracks[0]), 2))
    assert visible[0].all()
    assert torch.equal(visible[-1], (tracks[-1, :, 0] <= W - 0.5))


def test_a_point_of_flow_that_was_hidden_once_is_not_shown_again():
    frames = torch.zeros(4, 3, H, W)
    frames[1] = 1  # hides all, and goes away
    _, visible = find_tracks({"pixel_values": frames, "flow": torch.zeros(3, 2, H, W)})
    assert visible.tolist() == [[True] * 64, *[[False] * 64] * 3]


def moving_and_still(num_moving, num_still):
    """Tracks (4, N, 2) of a clip of 64 pixels: the first ones move by 10."""
    way = torch.zeros(4, num_moving + num_still, 2)
    way[:, :num_moving, 0] = torch.linspace(0, 10, 4)[:, None]
    return way + torch.rand(num_moving + num_still, 2) * 40


def drawn(choice, tracks, visible=None, times=300):
    visible = torch.ones(tracks.shape[:2], dtype=torch.bool) if visible is None else visible
    for _ in range(times):
        points, shown = choice.draw(tracks, visible, 64)
        moves = (points - points[:1]).norm(dim=-1).amax(dim=0) > 5
        yield points, shown, int((moves & shown[0]).sum()), int((~moves & shown[0]).sum())


def test_the_numbers_of_points_are_those_asked_for():
    torch.manual_seed(0)
    found = list(drawn(PointChoice(3, 4, moving_share=1.0), moving_and_still(20, 20)))
    assert {moving for _, _, moving, _ in found} == {1, 2, 3}
    assert {still for _, _, _, still in found} == {0, 1, 2, 3, 4}
    assert sum(still == 0 for _, _, _, still in found) / len(found) == pytest.approx(0.5, abs=0.1)
    assert all(points.shape == (4, 7, 2) and shown.shape == (4, 7) for points, shown, _, _ in found)


def test_moving_points_are_preferred_as_often_as_asked_for():
    torch.manual_seed(0)
    choice = PointChoice(1, 0, moving_share=0.5)
    share = sum(moving for *_, moving, _ in drawn(choice, moving_and_still(1, 99), times=1000)) / 1000
    assert share == pytest.approx(0.5 + 0.5 * 0.01, abs=0.05)


def test_no_point_is_drawn_twice_and_where_all_move_the_others_move_too():
    torch.manual_seed(0)
    tracks = moving_and_still(6, 0)
    found = list(drawn(PointChoice(3, 9), tracks))
    assert max(moving for _, _, moving, _ in found) == 6
    for points, shown, *_ in found:
        places = points[0][shown[0]]
        assert len(places.unique(dim=0)) == len(places)


def test_points_that_are_hidden_at_first_or_most_of_the_time_are_never_drawn():
    torch.manual_seed(0)
    tracks = moving_and_still(3, 0)
    visible = torch.ones(4, 3, dtype=torch.bool)
    visible[0, 0] = False
    visible[1:, 1] = False
    visible[2, 2] = False
    for points, shown, *_ in drawn(PointChoice(3, 2), tracks, visible):
        assert shown[0].sum() == 1
        assert torch.equal(points[:, 0], tracks[:, 2]) and torch.equal(shown[:, 0], visible[:, 2])
    visible[0] = False
    assert not any(shown.any() for _, shown, *_ in drawn(PointChoice(3, 2), tracks, visible))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0, 2), "num_points 0"),
        ((1, -1), "num_other_points -1"),
        ((1, 1, 2), "moving_share 2"),
        ((1, 1, 1, -1), "other_share -1"),
    ],
)
def test_values_out_of_range_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        PointChoice(*values)


def test_a_cached_clip_has_the_frames_of_its_points(dots, tmp_path):
    clips = read(dots, num_frames=COUNT, first_frames=True)
    stretches = Stretches(4, (2,), True)
    cached = read_cached_clips(clips, tiny_video_pipeline().vae, tmp_path, stretches, None, [Points(ALL)])
    cached.with_pixels = True
    checked = 0
    for index in range(len(cached)):
        for _ in range(6):
            sample = cached[index]
            frames, seen = sample["pixel_values"], sample["visible"][:, 0]
            assert to_frames(frames).shape == (4, H, H, 3)
            assert torch.equal(brightest(frames)[seen], sample["tracks"][:, 0][seen])
            checked += int(seen.sum())
    assert checked > 20
