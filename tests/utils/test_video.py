"""Reading and writing video files."""

from io import BytesIO

import av
import numpy as np
import pytest
import torch
from PIL import Image

from tests.silence import mux_silence
from utils.video import FrameIndex, contact_sheet, decode, index_frames, read_video, to_frames, write_gif, write_video


def numbered(count=12, H=32, W=48):
    """Frames whose brightness is their number."""
    frames = np.zeros((count, H, W, 3), np.uint8)
    frames += (np.arange(count, dtype=np.uint8) * 20)[:, None, None, None]
    return frames


def numbers(video):
    return [round(value) for value in (video.pixels.mean((1, 2, 3)).add(1).mul(127.5) / 20).tolist()]


def encode(path, codec, options=None, pix_fmt="yuv420p", rate=30, count=60):
    """A file of another container or codec, of moving noise."""
    frames = np.random.default_rng(0).integers(0, 255, (count, 32, 48, 3), dtype=np.uint8)
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width, stream.pix_fmt = 32, 48, pix_fmt
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


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


def test_colours_survive_writing_and_reading(tmp_path):
    colours = torch.tensor([[1.0, -1, -1], [-1, 1, -1], [-1, -1, 1], [0.5, 0, -0.5]])
    write_video(tmp_path / "a.mp4", colours[:, :, None, None].expand(-1, -1, 32, 32), fps=4, crf=8)
    assert (read_video(tmp_path / "a.mp4").pixels.mean((2, 3)) - colours).abs().max() < 0.03


def test_browsers_can_play_what_is_written(path):
    with av.open(path) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert (context.colorspace, context.color_trc, context.color_primaries, context.color_range) == (1, 1, 1, 1)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_a_stretch_begins_exactly_where_it_was_asked_to(path):
    assert numbers(read_video(path, start=7, num_frames=3)) == [7, 8, 9]


@pytest.mark.parametrize(("name", "count", "fps"), [("cat", 87, 20), ("car-turn", 81, 25), ("nasa_13013", 325, 25)])
def test_a_stretch_of_a_real_clip_is_that_of_the_whole(shared_media, name, count, fps):
    path = shared_media / f"{name}.mp4"
    index = index_frames(path)
    assert len(index) == count
    assert index.fps == pytest.approx(fps, rel=0.01)
    starts = [0, 1, 50, 251, 252, count - 3]
    whole = {n: frame for n, frame in enumerate(decode(path, range(count), index)) if {n, n - 1, n - 2} & set(starts)}
    for start in [start for start in starts if start + 3 <= count]:
        part = list(decode(path, range(start, start + 3), index))
        assert all((frame == whole[start + k]).all() for k, frame in enumerate(part))


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("open.mp4", "libx264", {"x264-params": "open-gop=1:keyint=10:min-keyint=5:bframes=3"}),
        ("often.mp4", "libx264", {"x264-params": "keyint=2:bframes=3"}),
        ("a.mkv", "libx264", {"g": "12"}),
        ("a.ts", "libx264", {"g": "12"}),
        ("a.webm", "libvpx", {"g": "12"}),
        ("a.avi", "mpeg4", {"bf": "2", "g": "12"}),
        ("a.mov", "mpeg4", {"g": "12"}),
    ],
)
def test_seeking_is_exact_in_other_containers(tmp_path, name, codec, options):
    path = encode(tmp_path / name, codec, options)
    index = index_frames(path)
    assert len(index) == 60
    whole = list(decode(path, range(60), index))
    for start in range(0, 60, 7):
        part = list(decode(path, [start, start, min(start + 5, 59)], index))
        assert (part[0] == whole[start]).all() and (part[1] == whole[start]).all()
        assert (part[2] == whole[min(start + 5, 59)]).all()


@pytest.mark.parametrize(("fps", "expected"), [(5, [0, 2, 4, 6, 8, 10]), (20, [0, 0, 1, 1, 2, 2]), (10, range(6))])
def test_another_rate_takes_the_nearest_frames(path, fps, expected):
    video = read_video(path, fps=fps, num_frames=6)
    assert numbers(video) == list(expected)
    assert video.fps == fps


def test_another_rate_keeps_the_length(path):
    assert len(read_video(path, fps=5).pixels) == 6
    assert len(read_video(path, fps=20).pixels) == 24


def test_rounded_time_stamps_neither_drop_nor_repeat_frames(tmp_path):
    index = index_frames(encode(tmp_path / "a.webm", "libvpx"))  # thousandths of seconds
    assert index.resample(30) == list(range(60))
    assert index.resample(15) == list(range(0, 60, 2))


def test_odd_sizes_are_padded_by_their_edge(tmp_path):
    frames = numbered(H=31, W=47)
    frames[:, -1] = frames[:, :, -1] = 200
    write_video(tmp_path / "odd.mp4", frames, fps=8, crf=4)
    video = read_video(tmp_path / "odd.mp4").pixels
    assert video.shape == (12, 3, 32, 48)
    assert (video[:, :, -2:].add(1).mul(127.5) - 200).abs().max() < 12


def test_rates_of_television_are_kept(tmp_path):
    write_video(tmp_path / "a.mp4", numbered(), fps=30000 / 1001)
    assert read_video(tmp_path / "a.mp4").fps == pytest.approx(30000 / 1001, rel=1e-6)


def test_bytes_are_read_like_files(path):
    assert (read_video(BytesIO(path.read_bytes()), 3, 2).pixels == read_video(path, 3, 2).pixels).all()


def test_a_file_that_says_that_it_lies_on_its_side_is_turned(path):
    data = bytearray(path.read_bytes())
    matrix = np.array([0, 1 << 16, 0, -(1 << 16), 0, 0, 32 << 16, 0, 1 << 30], ">i4").tobytes()
    place = data.index(b"tkhd") + 44
    data[place : place + 36] = matrix
    upright, turned = read_video(path).pixels, read_video(BytesIO(data)).pixels
    assert turned.shape == (12, 3, 48, 32)
    assert (turned == upright.rot90(-1, (2, 3))).all()


def test_times_of_frames_come_without_decoding(path):
    assert [float(time) for time in index_frames(path).times] == pytest.approx([k / 10 for k in range(12)])
    assert FrameIndex((5,), 1).fps == 1


def test_too_short_and_missing_files_are_named(tmp_path, path):
    with pytest.raises(ValueError, match="a.mp4 has 12 frames from frame 0 on, not 16"):
        read_video(path, num_frames=16)
    with pytest.raises(ValueError, match="a.mp4 has 0 frames from frame 40 on at 5 fps"):
        read_video(path, start=40, fps=5)
    with pytest.raises(FileNotFoundError, match="There is no video"):
        read_video(tmp_path / "none.mp4")
    with pytest.raises(ValueError, match="start=-1"):
        read_video(path, start=-1)


def test_files_that_are_no_video_are_named(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty.mp4").write_bytes(b"")
    for name in ("text.mp4", "empty.mp4"):
        with pytest.raises(ValueError, match=f"{name} cannot be read as a video"):
            read_video(tmp_path / name)
    with av.open(tmp_path / "sound.mp4", "w") as container:
        mux_silence(container, container.add_stream("aac", rate=44100))
    with pytest.raises(ValueError, match=r"sound.mp4 has no video, only sound, data or a cover"):
        read_video(tmp_path / "sound.mp4")


def test_a_file_cut_at_any_place_is_refused(tmp_path):
    data = encode(tmp_path / "a.mp4", "libx264", {"movflags": "faststart"}).read_bytes()
    for size in (100, 600, len(data) // 2, len(data) * 9 // 10):
        (tmp_path / "cut.mp4").write_bytes(data[:size])
        with pytest.raises(ValueError, match=r"cut.mp4 (cannot be read|is cut short|is damaged|has no)"):
            read_video(tmp_path / "cut.mp4", num_frames=2)


@pytest.mark.parametrize("length", [1, 1000])
def test_a_file_damaged_in_the_middle_is_refused_but_not_what_lies_before(shared_media, length):
    data = bytearray((shared_media / "cat.mp4").read_bytes())
    data[120_000 : 120_000 + length] = bytes(255 - value for value in data[120_000 : 120_000 + length])
    with pytest.raises(ValueError, match="The video (is damaged|cannot be read)"):
        read_video(BytesIO(data))
    assert len(read_video(BytesIO(data), num_frames=30).pixels) == 30


def test_gifs_loop_at_the_asked_rate(tmp_path):
    frames = np.stack([np.full((16, 16, 3), value, np.uint8) for value in (0, 100, 200)])
    write_gif(tmp_path / "a.gif", frames, fps=8)
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames == 3
        assert image.info["loop"] == 0
        assert image.info["duration"] == 120
    video = read_video(tmp_path / "a.gif")
    assert (to_frames(video.pixels) == frames).all()
    assert (to_frames(read_video(tmp_path / "a.gif", 1, 2).pixels) == frames[1:]).all()


def test_a_contact_sheet_shows_frames_row_by_row():
    sheet = contact_sheet(numbered(), columns=4)
    assert sheet.size == (4 * 48, 3 * 32)
    assert sheet.getpixel((48 + 5, 32 + 5)) == (100, 100, 100)
    assert contact_sheet(numbered(), columns=4, count=3).size == (3 * 48, 32)


def test_other_videos_and_names_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\(2, 1, 8, 8\)"):
        to_frames(torch.zeros(2, 1, 8, 8))
    with pytest.raises(ValueError, match=r"written as .mp4"):
        write_video(tmp_path / "a.avi", numbered(), 8)
    for write in (write_video, write_gif):
        with pytest.raises(ValueError, match="fps 0 is no rate"):
            write(tmp_path / "a.mp4", numbered(), 0)
