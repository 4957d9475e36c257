"""What a data set of clips lists before a frame is read: a function for each layout, found by `read_video_records`."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from utils.data.files import File, list_members
from utils.data.rows import CAPTION_KEYS, check_rate, read_path, read_rate, read_row_caption, say_captions
from utils.files import is_file, is_folder, real_paths
from utils.formats.folders import IMAGE_SUFFIXES, list_files, natural_key, walk_files
from utils.formats.text import read_csv, read_json, read_json_lines, read_text
from utils.video import VIDEO_SUFFIXES

METADATA = "metadata.jsonl"
CAPTION_SUFFIXES = (".txt", ".json")  # of files beside a clip, in the order of preference
CONTROLS = ("depth", "segmentation", "control")
ANNOTATIONS = ("flow", "backward_flow", "tracks", *CONTROLS)  # fields of a record that name a file or folder
FRAME_FOLDER_FPS = 7.0  # of folders that come without a rate: what Stable Video Diffusion is conditioned on by default


@dataclass(frozen=True)
class VideoRecord:
    """One clip with what belongs to it.

    Attributes:
        key: Its name, unique within a data set; may have slashes.
        video: A video file, on its own or in a tar, or a folder of numbered frames.
        caption: Text, or the file that holds it (.txt, or .json with one of `utils.data.rows.CAPTION_KEYS`).
        fps: Rate of a folder of frames; a video file knows its own.
        flow, backward_flow: Arrays (F - flow_stride, 2, H, W) in pixels, x then y: row t is the flow from frame t to
            frame t + flow_stride, and back. None where there is no annotation.
        flow_stride: Frames between the two that a flow connects.
        flow_fps: Rate at which the frames were counted; None is that of the file.
        tracks: Arrays tracks (F, N, 2) in pixels and visible (F, N), in one .npz.
        depth, segmentation, control: Images that belong to the frames, one for each: a folder of numbered ones, or a
            video.
        caption_source: Key, column or suffix of the file that the caption comes from; "" without one.
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
    depth: Path | None = None
    segmentation: Path | None = None
    control: Path | None = None
    caption_source: str = ""

    @property
    def files(self) -> list[Path]:
        """What is read of this clip: files, and its folder of frames."""
        video = self.video if isinstance(self.video, Path) else self.video.archive
        caption = [self.caption] if isinstance(self.caption, Path) else []
        return [video, *caption, *(path for name in ANNOTATIONS if (path := getattr(self, name)))]

    def read_caption(self) -> str:
        """The text.

        Raises:
            FileNotFoundError, ValueError: Its file is missing, or holds none.
        """
        return self.caption if isinstance(self.caption, str) else read_caption_file(self.caption)


def read_video_records(path: str | Path, frame_folder_fps: float = FRAME_FOLDER_FPS) -> list[VideoRecord]:
    """List a data set of clips.

    Args:
        path: A `.csv` of WebVid, a `.json` list, a `.jsonl` of metadata, a `.tar` shard, a video; or a folder with
            `metadata.jsonl` (or with a `.jsonl` of its name beside it), one `.csv`, shards, video files at any depth
            (Panda-70M), or folders of numbered frames.
        frame_folder_fps: Rate of folders of frames that come without one.

    Raises:
        FileNotFoundError: There is no such path.
        ValueError: Its content cannot be read, or lists no clip.
    """
    path = Path(path)
    if not is_file(path) and not is_folder(path):
        raise FileNotFoundError(f"There is no data set {path}.")
    records = _read_folder(path, frame_folder_fps) if is_folder(path) else _read_list(path)
    if not records:
        raise ValueError(f"{path} lists no clip.")
    say_captions(path, (record.caption_source for record in records))
    return records


def find_lists(path: str | Path) -> list[Path]:
    """The files that list the clips of a data set, where it has some: itself, or in a folder or beside it."""
    path = Path(path)
    if not is_folder(path):
        return [path]
    whole = path.resolve()
    metadata = [path / METADATA, whole.parent / f"{whole.name}.jsonl"]
    return [file for file in metadata if is_file(file)][:1] or list_files(path, {".csv"})


def unique_clips(records: Iterable[VideoRecord]) -> list[VideoRecord]:
    """One record of each clip, the last one at the place of the first, where some are listed several times."""
    records = list(records)
    places = real_paths(record.files[0] for record in records)
    members = (None if isinstance(record.video, Path) else record.video for record in records)
    return list(dict(zip(zip(places, members, strict=True), records, strict=True)).values())


def read_caption_file(file: File) -> str:
    """The text of a .txt, or the caption of a .json.

    Raises:
        FileNotFoundError, ValueError: The file is missing, or holds none.
    """
    if file.suffix.lower() != ".json":
        return read_text(file).strip()
    content = read_json(file)
    caption, key = read_row_caption(str(file), content) if isinstance(content, dict) else ("", "")
    if not key:
        raise ValueError(f'{file} has no "caption" (or {", ".join(CAPTION_KEYS)}); write {{"caption": "a red cube"}}.')
    return caption


def read_metadata(path: Path) -> list[VideoRecord]:
    """Read lines of JSON with paths relative to the file.

    Each has `video_folder` with `fps`, or `file_name` of a video; a caption, `flow_file_name`, `tracks_file_name`, and
    the folders or videos `depth_file_name`, `segmentation_file_name`, `control_file_name` may be missing.
    """
    return [_metadata_record(path, place, row) for place, row in read_json_lines(path)]


def read_webvid(path: Path, video_folder: Path | None = None) -> list[VideoRecord]:
    """Read a csv with the columns videoid, page_dir and name.

    Videos lie at `videos/<page_dir>/<videoid>.mp4` or at `<videoid>.mp4` in the folder of the csv, or in
    `video_folder`, with or without the `videos`.
    """
    columns, rows = read_csv(path)
    missing = {"videoid", "page_dir", "name"} - set(columns)
    if missing:
        has = ", ".join(columns) or "none"
        raise ValueError(f"{path} is no csv of WebVid: the column {min(missing)} is missing; it has {has}.")
    if not rows:
        return []
    root = video_folder or path.parent
    nested = [Path("videos", row["page_dir"], f"{row['videoid']}.mp4") for row in rows]
    trees = [nested, [Path(*name.parts[1:]) for name in nested], [Path(name.name) for name in nested]]
    # A tree is chosen by the first of its files that is there, since a download is seldom complete.
    found = next((tree for tree in trees if any(is_file(root / name) for name in tree)), None)
    if found is None:
        raise ValueError(f"None of the videos of {path} is in {root}, neither as {nested[0]} nor as {nested[0].name}.")
    return [
        VideoRecord(name.stem, root / name, row["name"], caption_source="name" if row["name"] else "")
        for name, row in zip(found, rows, strict=True)
    ]


def read_video_files(folder: Path, files: Iterable[Path]) -> list[VideoRecord]:
    """Videos with the caption in a .txt or else a .json beside, if there is one, as Panda-70M comes."""
    files = sorted(files, key=natural_key)
    captions = _captions_beside({file.parent for file in files})
    return [
        _with_caption(_key(file.relative_to(folder)), file, captions.get(file.with_suffix(""), "")) for file in files
    ]


def read_json_list(path: Path) -> list[VideoRecord]:
    """Read a list of {"video_path", "text"}, paths relative to the file or absolute; folders of frames need "fps"."""
    rows = read_json(path)
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "video_path" in row for row in rows):
        raise ValueError(f'{path} is no list of {{"video_path": …, "text": …}}.')
    return [_list_record(path, f"{path}, clip {number}", row) for number, row in enumerate(rows, 1)]


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
                caption = next((files[suffix] for suffix in CAPTION_SUFFIXES if suffix in files), "")
                records.append(_with_caption(f"{path.stem}/{_key(Path(key))}", video, caption))
    return records


def read_frame_folders(root: Path, folders: Iterable[Path], fps: float) -> list[VideoRecord]:
    """Folders of numbered frames at any depth of `root`, without captions."""
    check_rate(str(root), fps)
    folders = sorted(folders, key=natural_key)
    return [VideoRecord(_key(folder.relative_to(root.parent)), folder, fps=fps) for folder in folders]


def _read_list(path: Path) -> list[VideoRecord]:
    readers = {".csv": read_webvid, ".json": read_json_list, ".jsonl": read_metadata}
    suffix = path.suffix.lower()
    if suffix == ".tar":
        return read_shards([path])
    if suffix in VIDEO_SUFFIXES:
        return read_video_files(path.parent, [path])
    if suffix not in readers:
        raise ValueError(f"{path} is no list of clips: that is a folder, .csv, .json, .jsonl, .tar or a video.")
    return readers[suffix](path)


def _read_folder(folder: Path, frame_folder_fps: float) -> list[VideoRecord]:
    lists = find_lists(folder)
    if len(lists) > 1:
        raise ValueError(f"{folder} has {len(lists)} csv files; name one of them, such as {lists[0]}.")
    if lists:
        return _read_list(lists[0])
    if shards := list_files(folder, {".tar"}):
        return read_shards(shards)
    if videos := walk_files(folder, VIDEO_SUFFIXES):
        return read_video_files(folder, videos)
    folders = {file.parent for file in walk_files(folder, IMAGE_SUFFIXES)}
    return read_frame_folders(folder, folders, frame_folder_fps)


def _metadata_record(path: Path, place: str, row: dict) -> VideoRecord:
    frames, video = (read_path(place, row, key) for key in ("video_folder", "file_name"))
    found = {name: read_path(place, row, f"{name}_file_name") for name in ("flow", "tracks", *CONTROLS)}
    caption, source = read_row_caption(place, row)
    fps, name = read_rate(place, row), frames or video
    if name is None:
        raise ValueError(f"{place}: neither video_folder nor file_name.")
    if frames and fps is None:
        raise ValueError(f"{place}: no fps for the frames in {frames}.")
    files = {key: path.parent / file for key, file in found.items() if file}
    return VideoRecord(_key(Path(name)), path.parent / name, caption, fps, **files, caption_source=source)


def _list_record(path: Path, place: str, row: dict) -> VideoRecord:
    name, fps = read_path(place, row, "video_path"), read_rate(place, row)
    caption, source = read_row_caption(place, row)
    if name is None:
        raise ValueError(f"{place}: no video_path.")
    return VideoRecord(_key(Path(name)), path.parent / name, caption, fps, caption_source=source)


def _captions_beside(folders: Iterable[Path]) -> dict[Path, Path]:
    """From the path of a clip without its suffix to the file that holds its caption."""
    found = {}
    for suffix in reversed(CAPTION_SUFFIXES):
        found |= {file.with_suffix(""): file for folder in folders for file in list_files(folder, {suffix})}
    return found


def _with_caption(key: str, video: File, caption: str | File) -> VideoRecord:
    source = f"{caption.suffix.lower()} beside" if caption else ""
    return VideoRecord(key, video, caption, caption_source=source)


def _key(name: Path) -> str:
    name = name.with_suffix("") if name.suffix.lower() in VIDEO_SUFFIXES else name
    return name.name if name.is_absolute() or ".." in name.parts else name.as_posix()
