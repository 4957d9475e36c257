"""What a data set of clips lists before a frame is read. One function for each layout on disk; `read_video_records` finds out which."""

import csv
import json
import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from utils.data.files import File, list_members
from utils.data.json_lines import read_json_lines
from utils.video import VIDEO_SUFFIXES

METADATA = "metadata.jsonl"
FRAME_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
FRAME_FOLDER_FPS = 7.0  # of folders that come without a rate: what Stable Video Diffusion is conditioned on by default


@dataclass(frozen=True)
class VideoRecord:
    """One clip with what belongs to it.

    Attributes:
        key: Its name, unique within a data set; may have slashes.
        video: A video file, on its own or in a tar, or a folder of numbered frames.
        caption: Text, or the file that holds it (.txt, or .json with "caption" or "text").
        fps: Rate of a folder of frames; a video file knows its own.
        flow, backward_flow: Arrays (F - flow_stride, 2, H, W) in pixels, x then y: row t is the flow from frame t to frame
            t + flow_stride, and back. None where there is no annotation.
        flow_stride: Frames between the two that a flow connects.
        flow_fps: Rate at which the frames were counted; None is that of the file.
        tracks: Arrays tracks (F, N, 2) in pixels and visible (F, N), in one .npz.
    """

    key: str
    video: File
    caption: str | File = ""
    fps: float | None = None
    flow: Path | None = None
    backward_flow: Path | None = None
    flow_stride: int = 1
    flow_fps: float | None = None
    tracks: Path | None = None

    def read_caption(self) -> str:
        """The text.

        Raises:
            FileNotFoundError, ValueError: Its file is missing, or holds none.
        """
        if isinstance(self.caption, str):
            return self.caption
        text = self.caption.read_text(encoding="utf-8")
        if self.caption.suffix != ".json":
            return text.strip()
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"{self.caption} is not JSON ({error}).") from error
        text = content.get("caption", content.get("text")) if isinstance(content, dict) else None
        if not isinstance(text, str):
            raise ValueError(f'{self.caption} has no "caption".')
        return text


def read_video_records(path: str | Path, frame_folder_fps: float = FRAME_FOLDER_FPS) -> list[VideoRecord]:
    """List a data set of clips.

    Args:
        path: A `.csv` of WebVid, a `.json` list, a `.jsonl` of metadata, a `.tar` shard, a video; or a folder with `metadata.jsonl` (or with a
            `.jsonl` of its name beside it), one `.csv`, shards, video files at any depth (Panda-70M), or folders of numbered frames.
        frame_folder_fps: Rate of folders of frames that come without one.

    Raises:
        FileNotFoundError: There is no such path.
        ValueError: Its content cannot be read, or lists no clip.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no data set {path}.")
    records = _read_folder(path, frame_folder_fps) if path.is_dir() else _read_list(path)
    if not records:
        raise ValueError(f"{path} lists no clip.")
    return records


def read_metadata(path: Path) -> list[VideoRecord]:
    """Read lines of JSON with paths relative to the file.

    Each has `video_folder` with `fps`, or `file_name` of a video; `text`, `flow_file_name` and `tracks_file_name` may be missing.
    """
    return [_metadata_record(path, place, row) for place, row in read_json_lines(path)]


def read_webvid(path: Path, video_folder: Path | None = None) -> list[VideoRecord]:
    """Read a csv with the columns videoid, page_dir and name.

    Videos lie at `videos/<page_dir>/<videoid>.mp4` or at `<videoid>.mp4` in the folder of the csv, or in `video_folder`, with or
    without the `videos`.
    """
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file, restval="")
        missing = {"videoid", "page_dir", "name"} - set(reader.fieldnames or ())
        if missing:
            raise ValueError(f"{path} is no csv of WebVid: the column {min(missing)} is missing.")
        rows = list(reader)
    if not rows:
        return []
    root = video_folder or path.parent
    nested = [Path("videos", row["page_dir"], f"{row['videoid']}.mp4") for row in rows]
    trees = [nested, [Path(*name.parts[1:]) for name in nested], [Path(name.name) for name in nested]]
    # A tree is chosen by the first of its files that is there, since a download is seldom complete.
    found = next((tree for tree in trees if any((root / name).is_file() for name in tree)), None)
    if found is None:
        raise ValueError(f"None of the videos of {path} is in {root}, neither as {nested[0]} nor as {nested[0].name}.")
    return [VideoRecord(name.stem, root / name, row["name"]) for name, row in zip(found, rows, strict=True)]


def read_video_files(folder: Path, files: Iterable[Path]) -> list[VideoRecord]:
    """Videos with the caption in a .txt or else a .json beside, if there is one, as Panda-70M comes."""
    return [VideoRecord(_key(file.relative_to(folder)), file, _caption_beside(file)) for file in sorted(files)]


def read_json_list(path: Path) -> list[VideoRecord]:
    """Read a list of {"video_path", "text"}, with paths relative to the file or absolute; a folder of frames also needs "fps"."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error}).") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "video_path" in row for row in rows):
        raise ValueError(f'{path} is no list of {{"video_path": …, "text": …}}.')
    for number, row in enumerate(rows, 1):
        _check_types(f"{path}, clip {number}", row, "video_path")
    return [
        VideoRecord(_key(Path(name)), path.parent / name, row.get("text") or "", row.get("fps"))
        for row in rows
        for name in [row["video_path"]]
    ]


def read_shards(paths: Iterable[Path]) -> list[VideoRecord]:
    """List webdataset shards: files of a tar that share a name up to its first dot are one sample."""
    records = []
    for path in paths:
        samples = defaultdict(dict)
        for member in list_members(path):
            head, _, name = member.file_name.rpartition("/")
            stem, _, suffix = name.partition(".")
            samples[f"{head}/{stem}" if head else stem][f".{suffix.lower()}"] = member
        for key, files in samples.items():
            video = next((file for suffix, file in files.items() if suffix in VIDEO_SUFFIXES), None)
            if video is not None:
                records.append(
                    VideoRecord(f"{path.stem}/{_key(Path(key))}", video, files.get(".txt", files.get(".json", "")))
                )
    return records


def read_frame_folders(root: Path, folders: Iterable[Path], fps: float) -> list[VideoRecord]:
    """Folders of numbered frames at any depth of `root`, without captions."""
    return [VideoRecord(_key(folder.relative_to(root.parent)), folder, fps=fps) for folder in sorted(folders)]


def _read_list(path: Path) -> list[VideoRecord]:
    readers = {".csv": read_webvid, ".json": read_json_list, ".jsonl": read_metadata}
    if path.suffix == ".tar":
        return read_shards([path])
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return read_video_files(path.parent, [path])
    if path.suffix not in readers:
        raise ValueError(f"{path} is no list of clips: that is a folder, .csv, .json, .jsonl, .tar or a video.")
    return readers[path.suffix](path)


def _read_folder(folder: Path, frame_folder_fps: float) -> list[VideoRecord]:
    for metadata in (folder / METADATA, folder.resolve().with_name(f"{folder.resolve().name}.jsonl")):
        if metadata.is_file():
            return read_metadata(metadata)
    lists = sorted(folder.glob("*.csv"))
    if len(lists) > 1:
        raise ValueError(f"{folder} has {len(lists)} csv files; name one of them, such as {lists[0]}.")
    if lists:
        return read_webvid(lists[0])
    if shards := sorted(folder.glob("*.tar")):
        return read_shards(shards)
    files = [Path(place, name) for place, _, names in os.walk(folder) for name in names]
    if videos := [file for file in files if file.suffix.lower() in VIDEO_SUFFIXES]:
        return read_video_files(folder, videos)
    folders = {file.parent for file in files if file.suffix.lower() in FRAME_SUFFIXES}
    return read_frame_folders(folder, folders, frame_folder_fps)


def _metadata_record(path: Path, place: str, row: dict) -> VideoRecord:
    name = row.get("video_folder") or row.get("file_name")
    if not name:
        raise ValueError(f"{place}: neither video_folder nor file_name.")
    _check_types(place, row, "video_folder", "file_name", "flow_file_name", "tracks_file_name")
    if "video_folder" in row and not row.get("fps"):
        raise ValueError(f"{place}: no fps for the frames in {name}.")
    files = {
        field: path.parent / row[f"{field}_file_name"] for field in ("flow", "tracks") if row.get(f"{field}_file_name")
    }
    return VideoRecord(_key(Path(name)), path.parent / name, row.get("text") or "", row.get("fps"), **files)


def _check_types(place: str, row: dict, *paths: str) -> None:
    """Raise a ValueError unless paths and caption are text, and the rate a number, as far as they are given."""
    for name in (*paths, "text", "fps"):
        value, kind = row.get(name), (int, float) if name == "fps" else str
        if value is not None and not isinstance(value, kind):
            raise ValueError(f"{place}: {name}={value!r} is no {'number' if name == 'fps' else 'text'}.")


def _caption_beside(video: Path) -> str | Path:
    beside = (video.with_suffix(suffix) for suffix in (".txt", ".json"))
    return next((file for file in beside if file.is_file()), "")


def _key(name: Path) -> str:
    name = name.with_suffix("") if name.suffix.lower() in VIDEO_SUFFIXES else name
    return name.name if name.is_absolute() or ".." in name.parts else name.as_posix()
