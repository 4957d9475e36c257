"""What a data set lists before an image is read: its files and captions. One function for each layout on disk."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from utils.data.plurals import plural
from utils.data.rows import read_path, read_row_caption, say_captions
from utils.depth import KINDS
from utils.files import is_file, is_folder
from utils.folders import IMAGE_SUFFIXES, list_files
from utils.text import read_json_lines, read_text

METADATA = "metadata.jsonl"


@dataclass(frozen=True)
class Record:
    """One image with what belongs to it.

    Attributes:
        image: File of the image.
        caption: Text, possibly empty.
        depth: File of its depth, or None.
        depth_kind: What that file holds unless it says so itself: "metres" or "disparity" (`utils.depth`).
        kind_is_named: Whether the data set names that kind.
        caption_source: Key of the row that the caption stands under, or "Annotations"; "" without a caption.
    """

    image: Path
    caption: str = ""
    depth: Path | None = None
    depth_kind: str = "metres"
    caption_source: str = ""
    kind_is_named: bool = True


def read_records(folder: str | Path) -> list[Record]:
    """List an image folder with `metadata.jsonl`, or PascalVOC.

    Raises:
        FileNotFoundError: The folder, its metadata, or a file that it names is missing.
        ValueError: A line of the metadata or an annotation cannot be read, or there is no image.
    """
    folder = Path(folder)
    if not is_folder(folder):
        raise FileNotFoundError(f"There is no data folder {folder}.")
    if (folder / METADATA).is_file():
        records = read_image_folder(folder)
    elif (folder / "JPEGImages").is_dir():
        records = read_pascal_voc(folder)
    else:
        raise FileNotFoundError(
            f"{folder} has no {METADATA} and no JPEGImages; write a {METADATA} with a line such as "
            '{"file_name": "0.png", "depth_file_name": "0_depth.png", "text": "a red cube"} for each image.'
        )
    if not records:
        raise ValueError(f"{folder} lists no image.")
    _check_files(folder, records)
    say_captions(folder, (record.caption_source for record in records))
    return records


def read_image_folder(folder: Path) -> list[Record]:
    """Read `metadata.jsonl`, one JSON object a line, with paths relative to the folder.

    `file_name` is required; a caption (`utils.data.rows`), `depth_file_name` and `depth_kind` ("metres", the default,
    or "disparity") are not.
    """
    return [_record(folder, place, row) for place, row in read_json_lines(folder / METADATA)]


def read_pascal_voc(folder: Path) -> list[Record]:
    """List `JPEGImages`, the disparity in `Depth/*.png` where it exists, and captions of the annotated objects.

    Raises:
        ValueError: An annotation cannot be read, or two images would share a depth image.
    """
    depths = list_voc_depths(folder)
    records = []
    for path in list_files(folder / "JPEGImages", IMAGE_SUFFIXES):
        caption = _describe_objects(folder / "Annotations" / f"{path.stem}.xml")
        source = "Annotations" if caption else ""
        records.append(Record(path, caption, depths.get(path.stem), "disparity", source))
    shared, count = (
        Counter(record.depth for record in records if record.depth).most_common(1)[0] if depths else (None, 0)
    )
    if count > 1:
        raise ValueError(f"{count} images of {folder} would share {shared}; give them different names.")
    return records


def list_voc_depths(folder: Path) -> dict[str, Path]:
    """The depth images of PascalVOC by the stem of their image."""
    place = folder / "Depth"
    return {path.stem: path for path in list_files(place, {".png"})} if place.is_dir() else {}


def _record(folder: Path, place: str, row: dict) -> Record:
    name, depth = (read_path(place, row, key) for key in ("file_name", "depth_file_name"))
    if name is None:
        raise ValueError(f"{place}: no file_name.")
    named = row.get("depth_kind") or None
    if named not in (None, *KINDS):
        raise ValueError(f"{place}: depth_kind is {' or '.join(KINDS)}, not {named!r}.")
    caption, source = read_row_caption(place, row)
    depth_file = folder / depth if depth else None
    return Record(folder / name, caption, depth_file, named or "metres", source, kind_is_named=bool(named))


def _describe_objects(path: Path) -> str:
    """A caption of the objects that an annotation names; empty where there is none."""
    if not is_file(path):
        return ""
    text = read_text(path)
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"{path} is not XML ({error}); mend or remove it.") from error
    names = ((node.findtext("name") or "").strip() for node in root.iter("object"))
    counts = Counter(name for name in names if name)
    if not counts:
        return ""
    return "a photo of " + " and ".join(name if n == 1 else f"{n} {plural(name)}" for name, n in counts.items())


def _check_files(folder: Path, records: list[Record]) -> None:
    files = [path for record in records for path in (record.image, record.depth) if path]
    missing = [path for path in files if not is_file(path)]
    if missing:
        raise FileNotFoundError(f"{folder} names {len(missing)} files that do not exist, the first {missing[0]}.")
