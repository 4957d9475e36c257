"""What a data set lists before an image is read: its files and captions. One function for each layout on disk."""

import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from utils.data.plurals import plural
from utils.data.rows import read_path, read_row_caption, say_captions
from utils.depth import KINDS
from utils.files import is_file, is_folder, real_paths
from utils.formats.folders import IMAGE_SUFFIXES, list_files
from utils.formats.text import read_json_lines, read_text
from utils.messages.words import count

METADATA = "metadata.jsonl"
XML_ENCODING = re.compile(rb"""<\?xml[^>]*?encoding\s*=\s*["']([\w.-]+)""")


@dataclass(frozen=True)
class Record:
    """One image with what belongs to it.

    Attributes:
        image: File of the image.
        caption: Text, possibly empty.
        depth: File of its depth, or None.
        depth_kind: What that file holds unless it says so itself: "metres" or "disparity" (`utils.depth`).
        kind_is_named: Whether the data set names that kind.
        paired: File of the image under the key that was asked for, or None.
        caption_source: Key of the row that the caption stands under, or "Annotations"; "" without a caption.
    """

    image: Path
    caption: str = ""
    depth: Path | None = None
    depth_kind: str = "metres"
    caption_source: str = ""
    kind_is_named: bool = True
    paired: Path | None = None


def read_records(folder: str | Path, pair: str | None = None) -> list[Record]:
    """List an image folder with `metadata.jsonl`, or PascalVOC.

    Args:
        pair: What each image is paired with, where that is a file of its own: the key "{pair}_file_name" names it.

    Raises:
        FileNotFoundError: The folder, its metadata, or a file that it names is missing.
        ValueError: A line of the metadata or an annotation cannot be read, or there is no image.
    """
    folder = Path(folder)
    if not is_folder(folder):
        raise FileNotFoundError(f"There is no data folder {folder}.")
    if (folder / METADATA).is_file():
        records = read_image_folder(folder, pair)
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


def read_image_folder(folder: Path, pair: str | None = None) -> list[Record]:
    """Read `metadata.jsonl`, one JSON object a line, with paths relative to the folder.

    `file_name` is required; a caption (`utils.data.rows`), `depth_file_name` and `depth_kind` ("metres", the default,
    or "disparity") are not, nor is the file of a pair (`read_records`).
    """
    return [_record(folder, place, row, pair) for place, row in read_json_lines(folder / METADATA)]


def read_pascal_voc(folder: Path) -> list[Record]:
    """List `JPEGImages`, the disparity in `Depth/*.png` where it exists, and captions of the annotated objects.

    Raises:
        ValueError: An annotation cannot be read, or two images would share a depth image.
    """
    depths, annotations = list_voc_depths(folder), _by_stem(folder / "Annotations", ".xml")
    records = []
    for path in list_files(folder / "JPEGImages", IMAGE_SUFFIXES):
        caption = _describe_objects(annotations.get(path.stem))
        source = "Annotations" if caption else ""
        records.append(Record(path, caption, depths.get(path.stem), "disparity", source))
    shared, times = (
        Counter(record.depth for record in records if record.depth).most_common(1)[0] if depths else (None, 0)
    )
    if times > 1:
        raise ValueError(f"{times} images of {folder} would share {shared}; give them different names.")
    return records


def list_voc_depths(folder: Path) -> dict[str, Path]:
    """The depth images of PascalVOC by the stem of their image."""
    return _by_stem(folder / "Depth", ".png")


def _by_stem(folder: Path, suffix: str) -> dict[str, Path]:
    return {path.stem: path for path in list_files(folder, {suffix})} if folder.is_dir() else {}


def _record(folder: Path, place: str, row: dict, pair: str | None) -> Record:
    name, depth = (read_path(place, row, key) for key in ("file_name", "depth_file_name"))
    paired = read_path(place, row, f"{pair}_file_name") if pair else None
    if name is None:
        raise ValueError(f"{place}: no file_name.")
    named = None if row.get("depth_kind") in (None, "") else row["depth_kind"]
    if named not in (None, *KINDS):
        raise ValueError(f"{place}: depth_kind is {' or '.join(KINDS)}, not {named!r}.")
    caption, source = read_row_caption(place, row)
    depth_file = folder / depth if depth else None
    paired_file = folder / paired if paired else None
    return Record(folder / name, caption, depth_file, named or "metres", source, bool(named), paired_file)


def _describe_objects(path: Path | None) -> str:
    """A caption of the objects that an annotation names; empty where there is none."""
    if path is None:
        return ""
    root = _read_xml(path)
    names = (" ".join((node.findtext("{*}name") or "").split()) for node in root.findall(".//{*}object"))
    counts = Counter(name for name in names if name)
    if not counts:
        return ""
    return "a photo of " + " and ".join(name if n == 1 else f"{n} {plural(name)}" for name, n in counts.items())


def _read_xml(path: Path) -> ElementTree.Element:
    """The root of an XML file, in the encoding that it declares, or else the one that it has (`utils.formats.text`)."""
    data = path.read_bytes()
    with suppress(ElementTree.ParseError, ValueError, LookupError):
        return ElementTree.fromstring(data)
    declared = XML_ENCODING.match(data)
    with suppress(ElementTree.ParseError, ValueError, LookupError):  # of several bytes a letter, which expat lacks
        return ElementTree.fromstring(data.decode(declared[1].decode() if declared else "ascii"))
    try:
        return ElementTree.fromstring(read_text(path))
    except ElementTree.ParseError as error:
        raise ValueError(f"{path} is not XML ({error}); repair or remove it.") from error


def _check_files(folder: Path, records: list[Record]) -> None:
    files = [path for record in records for path in (record.image, record.depth, record.paired) if path]
    missing = [path for path in files if not is_file(path)]
    if missing:
        raise FileNotFoundError(f"{folder} names {count(len(missing), 'missing file')}, the first {missing[0]}.")
    images = set(real_paths(record.image for record in records))
    depths = [record.depth for record in records if record.depth]
    if taken := next((path for path, real in zip(depths, real_paths(depths), strict=True) if real in images), None):
        raise ValueError(f"{folder} names {taken} as depth, and it is an image; remove that depth_file_name.")
