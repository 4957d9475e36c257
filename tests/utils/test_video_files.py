"""Videos of phones, players and old recorders: mirrored, without times, with covers, with oblong pixels."""

from fractions import Fraction
from io import BytesIO

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from tests.silence import mux_silence
from utils.video import decode, index_frames, read_video, to_frames, write_video

W, H = 64, 32


def numbered(count: int = 16) -> np.ndarray:
    """Frames whose brightness is 15 times their number."""
    return np.zeros((count, H, W, 3), np.uint8) + (np.arange(count, dtype=np.uint8) * 15)[:, None, None, None]


def numbers(frames) -> list[int]:
    return [round(float(frame.mean()) / 15) for frame in frames]


def add_stream(container, codec: str, pix_fmt: str = "yuv420p", size=(W, H), aspect=None, **options):
    stream = container.add_stream(codec, rate=10, options=options)
    (stream.width, stream.height), stream.pix_fmt = size, pix_fmt
    if aspect:
        stream.codec_context.sample_aspect_ratio = aspect
    return stream


def encode(container, stream, frames: np.ndarray) -> None:
    for frame in frames:
        container.mux(
            stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24" if frame.shape[2] == 3 else "rgba"))
        )
    container.mux(stream.encode())


def write(path, codec: str, frames: np.ndarray, pix_fmt: str = "yuv420p", aspect=None, format=None, **options):
    with av.open(path, "w", format=format) as container:
        encode(container, add_stream(container, codec, pix_fmt, frames.shape[2:0:-1], aspect, **options), frames)
    return path


def check_order(path, count: int = 16) -> None:
    """All frames, in order, read whole and one by one and in stretches."""
    index = index_frames(path)
    assert len(index) == count
    assert numbers(to_frames(read_video(path).pixels)) == list(range(count))
    assert [numbers(decode(path, [k], index)) for k in range(count)] == [[k] for k in range(count)]
    assert numbers(decode(path, [3, 3, count - 1], index)) == [3, 3, count - 1]


# (a, b, c, d) of x' = a x + c y, y' = b x + d y.
MATRICES = [
    (1, 0, 0, 1),
    (-1, 0, 0, 1),
    (1, 0, 0, -1),
    (-1, 0, 0, -1),
    (0, 1, 1, 0),
    (0, 1, -1, 0),
    (0, -1, 1, 0),
    (0, -1, -1, 0),
]


def mapped(frames: np.ndarray, a: int, b: int, c: int, d: int) -> np.ndarray:
    """Every stored pixel put where the matrix says."""
    y, x = np.mgrid[:H, :W]
    x, y = a * x + c * y, b * x + d * y
    shown = np.empty_like(frames if a else frames.swapaxes(1, 2))
    shown[:, y - y.min(), x - x.min()] = frames
    return shown


def with_matrix(path, a: float, b: float, c: float, d: float) -> BytesIO:
    """The file with another display matrix in its track header."""
    data = bytearray(path.read_bytes())
    one = 1 << 16
    place = data.index(b"tkhd") + 44
    values = [a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30]
    data[place : place + 36] = np.array(values).round().astype(">i4").tobytes()
    return BytesIO(data)


@pytest.fixture
def lopsided(tmp_path):
    """A clip without any symmetry."""
    frames = np.random.default_rng(0).integers(0, 255, (3, H // 8, W // 8, 3), dtype=np.uint8)
    write_video(tmp_path / "a.mp4", frames.repeat(8, 1).repeat(8, 2), fps=10)
    return tmp_path / "a.mp4"


@pytest.mark.parametrize("matrix", MATRICES)
def test_all_eight_display_matrices_are_followed(lopsided, matrix):
    stored = to_frames(read_video(lopsided).pixels)
    assert (to_frames(read_video(with_matrix(lopsided, *matrix)).pixels) == mapped(stored, *matrix)).all()


def test_a_matrix_that_is_not_quite_a_quarter_turn_is_the_nearest_one(lopsided):
    upright, turned = (
        to_frames(read_video(with_matrix(lopsided, *matrix)).pixels) for matrix in [(1, 0, 0, 1), (0.05, -1, 1, 0.05)]
    )
    assert (turned == np.rot90(upright, axes=(1, 2))).all()


@pytest.mark.parametrize("bframes", [0, 2, 3])
def test_h264_in_avi_which_has_no_times_is_read_in_order(tmp_path, bframes):
    options = {"x264-params": f"bframes={bframes}:b-adapt=0:keyint=8", "crf": "8"}
    path = write(tmp_path / "a.avi", "libx264", numbered(), **options)
    check_order(path)
    check_order(BytesIO(path.read_bytes()))


@pytest.mark.parametrize("bf", ["0", "2"])
@pytest.mark.parametrize("codec", ["mpeg4", "mpeg2video"])
def test_older_codecs_in_avi_are_read_in_order(tmp_path, codec, bf):
    check_order(write(tmp_path / "a.avi", codec, numbered(), bf=bf, g="8", qmin="2", qmax="3"))


def test_a_stream_without_container_is_read_in_order(tmp_path):
    path = write(tmp_path / "a.h264", "libx264", numbered(), format="h264", **{"x264-params": "bframes=3:b-adapt=0"})
    check_order(path)
    assert index_frames(path).fps > 0


def packed(tmp_path):
    """MPEG-4 as DivX wrote it: a B-frame lies in the packet of the frame before, and an empty packet in its place."""
    options = {"bf": "1", "g": "100", "b_strategy": "0", "qmin": "2", "qmax": "3", "sc_threshold": "1000000000"}
    with av.open(write(tmp_path / "plain.avi", "mpeg4", numbered(), **options)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    encoder = packets[0].index(b"\0\0\1\xb2")  # the name of the encoder, by which DivX is known
    rest = packets[0].index(b"\0\0\1", encoder + 4)
    packets[0] = packets[0][:encoder] + b"\0\0\1\xb2DivX503b1393p" + packets[0][rest:]
    joined, rest = [packets[0]], packets[1:]
    while rest:
        frame, *rest = rest
        if rest and kind(rest[0]) == "B":
            joined += [frame + rest[0], b"\0\0\1\xb6\x40\x7f"]
            rest = rest[1:]
        else:
            joined.append(frame)
    assert len(joined) == len(packets) and len(set(joined)) < len(joined)
    with av.open(tmp_path / "packed.avi", "w") as container:
        stream = add_stream(container, "mpeg4")
        for time, data in enumerate(joined):
            packet = av.Packet(data)
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, time, time, Fraction(1, 10)
            packet.is_keyframe = time == 0
            container.mux(packet)
    return tmp_path / "packed.avi"


def kind(data: bytes) -> str:
    """I, P or B."""
    return "IPB"[data[data.rindex(b"\0\0\1\xb6") + 4] >> 6]


def test_packed_frames_of_divx_are_read_in_order(tmp_path):
    check_order(packed(tmp_path))


def test_an_mp4_whose_times_are_those_of_decoding_is_read_in_order(tmp_path):
    path = write(tmp_path / "a.avi", "libx264", numbered(), **{"x264-params": "bframes=3:b-adapt=0", "crf": "8"})
    with av.open(path) as source, av.open(tmp_path / "a.mp4", "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                container.mux(packet)
    check_order(tmp_path / "a.mp4")


def test_times_that_the_file_tells_are_kept(tmp_path):
    """A variable rate, with frames that are stored in another order than they are shown in."""
    times = [0, 1, 2, 4, 7, 8, 9, 15, 16, 20, 21, 22]
    for name in ("a.mp4", "a.mkv"):
        with av.open(tmp_path / name, "w") as container:
            stream = add_stream(container, "libx264", **{"x264-params": "bframes=3:b-adapt=0", "crf": "8"})
            for time, frame in zip(times, numbered(12), strict=True):
                frame = av.VideoFrame.from_ndarray(frame, format="rgb24")
                frame.pts, frame.time_base = time, Fraction(1, 10)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        index = index_frames(tmp_path / name)
        assert [float(time) for time in index.times] == pytest.approx([time / 10 for time in times])
        check_order(tmp_path / name, 12)


def jpeg() -> bytes:
    stream = BytesIO()
    Image.new("RGB", (W, H), "red").save(stream, "JPEG")
    return stream.getvalue()


def add_cover(container, disposition=None):
    stream = add_stream(container, "mjpeg", "yuvj420p")
    if disposition is not None:
        stream.disposition = disposition
    return stream


def mux_cover(container, stream) -> None:
    packet = av.Packet(jpeg())
    packet.stream, packet.pts, packet.dts, packet.time_base, packet.is_keyframe = stream, 0, 0, Fraction(1, 10), True
    container.mux(packet)


def with_cover(path, first: bool, disposition=None):
    with av.open(path, "w") as container:
        cover = add_cover(container, disposition) if first else None
        stream = add_stream(container, "libx264", crf="8")
        mux_cover(container, cover or add_cover(container, disposition))
        encode(container, stream, numbered())
    return path


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("disposition", [None, Disposition.attached_pic, Disposition.default])
def test_a_cover_is_no_video_wherever_it_lies(tmp_path, first, disposition):
    for name in ("a.mkv", "a.mp4") if disposition == Disposition.attached_pic else ("a.mkv", "a.avi"):
        check_order(with_cover(tmp_path / name, first, disposition))


def test_a_cover_that_an_mp4_names_before_its_tracks_is_no_video(tmp_path):
    data = with_cover(tmp_path / "a.mp4", False, Disposition.attached_pic).read_bytes()
    place = data.index(b"moov") - 4
    moov = data[place : place + int.from_bytes(data[place : place + 4])]
    tracks, user = moov.index(b"trak") - 4, moov.index(b"udta", moov.rindex(b"stsz")) - 4
    user = moov[user : user + int.from_bytes(moov[user : user + 4])]
    moved = moov[:tracks] + user + moov[tracks:].replace(user, b"")
    assert len(moved) == len(moov)
    (tmp_path / "a.mp4").write_bytes(data.replace(moov, moved))
    with av.open(tmp_path / "a.mp4") as container:
        assert [stream.codec_context.name for stream in container.streams.video] == ["mjpeg", "h264"]
    check_order(tmp_path / "a.mp4")


def test_sound_with_a_cover_is_no_video(tmp_path):
    with av.open(tmp_path / "a.mp4", "w") as container:
        sound, cover = container.add_stream("aac", rate=44100), add_cover(container, Disposition.attached_pic)
        mux_cover(container, cover)
        mux_silence(container, sound)
    with pytest.raises(ValueError, match=r"a\.mp4 has no video, only sound, data or a cover"):
        read_video(tmp_path / "a.mp4")


@pytest.mark.parametrize(("default", "count"), [(None, 5), (0, 5), (1, 16)])
def test_of_several_videos_the_default_one_is_read_or_else_the_first(tmp_path, default, count):
    with av.open(tmp_path / "a.mkv", "w") as container:
        streams = [add_stream(container, "libx264", crf="8") for _ in range(2)]
        for number, stream in enumerate(streams):
            stream.disposition = Disposition.default if number == default else Disposition(0)
        for stream, frames in zip(streams, (numbered(5), numbered()), strict=True):
            encode(container, stream, frames)
    check_order(tmp_path / "a.mkv", count)


@pytest.mark.parametrize(
    ("aspect", "size"), [("4/3", (85, H)), ("64/45", (91, H)), ("8/9", (W, 36)), ("1/2", (W, 64)), ("1", (W, H))]
)
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_pixels_that_are_not_square_are_widened_and_no_line_is_lost(tmp_path, name, aspect, size):
    frames = np.zeros((3, H, W, 3), np.uint8)
    frames[:, :, W // 2 :] = 255
    path = write(tmp_path / name, "libx264", frames, aspect=Fraction(aspect), crf="8")
    read = to_frames(read_video(path).pixels)
    assert read.shape[2:0:-1] == size
    middle = read[1, 5, :, 0] > 127
    assert abs(int(middle.argmax()) - size[0] / 2) <= 1
    assert (to_frames(read_video(path, 1, 2).pixels) == read[1:]).all()


def test_pixels_are_made_square_before_they_are_turned(tmp_path):
    frames = np.zeros((3, H, W, 3), np.uint8)
    path = write(tmp_path / "a.mp4", "libx264", frames, aspect=Fraction(2))
    assert read_video(with_matrix(path, 0, 1, -1, 0)).pixels.shape[2:] == (2 * W, H)


def test_a_ratio_that_no_pixel_has_is_refused(tmp_path):
    path = write(tmp_path / "a.mkv", "libx264", numbered(3), aspect=Fraction(1, 20))
    with pytest.raises(ValueError, match=r"a\.mkv says that its pixels are 0\.05 as wide as high"):
        read_video(path)


def test_transparent_parts_of_a_video_are_white(tmp_path):
    frames = np.zeros((3, H, W, 4), np.uint8)
    frames[:, :, W // 2 :] = (200, 10, 10, 255)
    frames[:, :, : W // 4] = (0, 0, 0, 128)
    read = to_frames(read_video(write(tmp_path / "a.mov", "png", frames, "rgba")).pixels)
    assert read[1, 3, [1, W // 4 + 2, -1]].tolist() == [[127, 127, 127], [255, 255, 255], [200, 10, 10]]
