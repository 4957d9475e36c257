"""Reading and writing video files."""

from io import BytesIO

import av
import numpy as np
import pytest
import torch
from PIL import Image

from utils.video import contact_sheet, frame_times, read_video, to_frames, write_gif, write_video


def numbered(count=12, H=32, W=48):
    """Frames whose brightness is their number."""
    frames = np.zeros((count, H, W, 3), np.uint8)
    frames += (np.arange(count, dtype=np.uint8) * 20)[:, None, None, None]
    return frames


def numbers(video):
    return [round(value) for value in (video.pixels.mean((1, 2, 3)).add(1).mul(127.5) / 20).tolist()]


@pytest.fixture
def path(tmp_path):
    write_video(tmp_path / "a.mp4", numbered(), fps=10)
    return tmp_path / "a.mp4"


def test_a_written_video_is_read_back(path):
    video = read_video(path)
    assert video.pixels.shape == (12, 3, 32, 48)
    assert video.fps == pytest.approx(10)
    assert numbers(video) == list(range(12))
    assert video.pixels.min() >= -1 and video.pixels.max() <= 1


def test_browsers_can_play_what_is_written(path):
    with av.open(path) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_a_stretch_begins_exactly_where_it_was_asked_to(path):
    assert numbers(read_video(path, start=7, num_frames=3)) == [7, 8, 9]


def test_seeking_past_key_frames_gives_the_frames_that_reading_all_gives(shared_media):
    whole = read_video(shared_media / "cat.mp4")
    part = read_video(shared_media / "cat.mp4", start=50, num_frames=4)
    assert (part.pixels == whole.pixels[50:54]).all()
    assert len(whole.pixels) == 87
    assert whole.fps == pytest.approx(20, rel=0.01)


@pytest.mark.parametrize(("fps", "expected"), [(5, [0, 2, 4, 6, 8, 10]), (20, [0, 0, 1, 1, 2, 2])])
def test_another_rate_takes_the_frames_that_are_shown_then(path, fps, expected):
    video = read_video(path, fps=fps, num_frames=6)
    assert numbers(video) == expected
    assert video.fps == fps


def test_a_slower_rate_keeps_the_length(path):
    assert len(read_video(path, fps=5).pixels) == 6
    assert len(read_video(path, fps=20).pixels) == 24


def test_odd_sizes_are_padded_by_their_edge(tmp_path):
    write_video(tmp_path / "odd.mp4", numbered(H=31, W=47), fps=8)
    assert read_video(tmp_path / "odd.mp4").pixels.shape == (12, 3, 32, 48)


def test_bytes_are_read_like_files(path):
    assert (read_video(BytesIO(path.read_bytes()), 3, 2).pixels == read_video(path, 3, 2).pixels).all()


def test_times_of_frames_come_without_decoding(path):
    assert [float(time) for time in frame_times(path)] == pytest.approx([k / 10 for k in range(12)])


def test_too_short_and_damaged_and_missing_files_are_named(tmp_path, path):
    with pytest.raises(ValueError, match="a.mp4 has 12 frames from frame 0 on; 16 are needed"):
        read_video(path, num_frames=16)
    with pytest.raises(ValueError, match="has 0 frames from frame 40 on"):
        read_video(path, start=40, fps=5)
    (tmp_path / "cut.mp4").write_bytes(path.read_bytes()[:600])
    (tmp_path / "text.mp4").write_text("no video")
    for name in ("cut.mp4", "text.mp4"):
        with pytest.raises(ValueError, match=f"{name} (cannot be read|is damaged|has no)"):
            read_video(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="There is no video"):
        read_video(tmp_path / "none.mp4")


def test_gifs_loop_at_the_asked_rate(tmp_path):
    frames = np.stack([np.full((16, 16, 3), value, np.uint8) for value in (0, 100, 200)])
    write_gif(tmp_path / "a.gif", frames, fps=8)
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames == 3
        assert image.info["loop"] == 0
        assert image.info["duration"] == 120


def test_a_contact_sheet_shows_frames_row_by_row():
    sheet = contact_sheet(numbered(), columns=4)
    assert sheet.size == (4 * 48, 3 * 32)
    assert sheet.getpixel((48 + 5, 32 + 5)) == (100, 100, 100)
    assert contact_sheet(numbered(), columns=4, count=3).size == (3 * 48, 32)


def test_other_videos_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\(2, 1, 8, 8\)"):
        to_frames(torch.zeros(2, 1, 8, 8))
    with pytest.raises(ValueError, match=r"written as .mp4"):
        write_video(tmp_path / "a.avi", numbered(), 8)
