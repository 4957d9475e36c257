"""Small data sets of clips. The brightness of a frame tells its number: 20 per frame."""

import json
import tarfile

import pytest
from PIL import Image

from tests.numbered_clips import add, numbered
from utils.video import write_video


@pytest.fixture(scope="session")
def video(tmp_path_factory):
    """A file of 12 numbered frames, 48x32, at 8 fps."""
    path = tmp_path_factory.mktemp("video") / "a.mp4"
    write_video(path, numbered(), fps=8, crf=4)
    return path


@pytest.fixture
def webvid(tmp_path, video):
    """The csv, with videos in the nested tree."""
    (tmp_path / "videos" / "000001_000050").mkdir(parents=True)
    (tmp_path / "videos" / "000001_000050" / "7.mp4").write_bytes(video.read_bytes())
    csv = 'videoid,contentUrl,duration,page_dir,name\n7,https://x,PT00H00M01S,000001_000050,"A cat, asleep"\n'
    (tmp_path / "train.csv").write_text(csv)
    return tmp_path / "train.csv"


@pytest.fixture
def panda(tmp_path, video):
    """Two videos with captions, as Panda-70M comes."""
    folder = tmp_path / "panda" / "00000"
    folder.mkdir(parents=True)
    for number in range(2):
        (folder / f"0000000_0000{number}.mp4").write_bytes(video.read_bytes())
        (folder / f"0000000_0000{number}.txt").write_text(f"clip {number}\n")
        (folder / f"0000000_0000{number}.json").write_text(json.dumps({"caption": f"clip {number}", "score": 0.4}))
    return tmp_path / "panda"


@pytest.fixture
def json_list(tmp_path, video):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.mp4").write_bytes(video.read_bytes())
    rows = [{"video_path": "clips/a.mp4", "text": "relative"}, {"video_path": str(video), "text": "absolute"}]
    (tmp_path / "list.json").write_text(json.dumps(rows))
    return tmp_path / "list.json"


@pytest.fixture
def shards(tmp_path, video):
    """Two tars of two clips each."""
    folder = tmp_path / "shards"
    folder.mkdir()
    for shard in range(2):
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as tar:
            for clip in range(2):
                add(tar, f"./{shard}_{clip}.mp4", video.read_bytes())
                add(tar, f"./{shard}_{clip}.txt", f"shard {shard} clip {clip}".encode())
                add(tar, f"./{shard}_{clip}.json", b"{}")
    return folder


@pytest.fixture
def frame_folders(tmp_path):
    """A folder of 12 numbered PNGs, whose names do not sort by number."""
    (tmp_path / "frames" / "a").mkdir(parents=True)
    for number, frame in enumerate(numbered()):
        Image.fromarray(frame).save(tmp_path / "frames" / "a" / f"frame_{number}.png")
    return tmp_path / "frames"


@pytest.fixture(scope="session")
def procedural(make_clips):
    """Two clips of the procedural world, 6 frames of 32x32."""
    return make_clips(num_samples=2, num_frames=6, num_tracks=8)
