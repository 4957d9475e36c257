"""What a data set lists before a picture is read: its files and captions. One function for each layout on disk."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from utils.data.json_lines import read_json_lines
from utils.depth import KINDS

METADATA = "metadata.jsonl"


@dataclass(frozen=True)
class Record:
    """One image with what belongs to it.

    Attributes:
        image: File of the image.
        caption: Text, possibly empty.
        depth: File of its depth, or None.
        depth_kind: What that file holds: "metres" or "disparity" (`utils.depth`).
    """

    image: Path
    caption: str = ""
    depth: Path | None = None
    depth_kind: str = "metres"


def read_records(folder: str | Path) -> list[Record]:
    """List an image folder with `metadata.jsonl`, or PascalVOC.

    Raises:
        FileNotFoundError: The folder, its metadata, or a file that it names is missing.
        ValueError: A line of the metadata cannot be read, or there is no image.
    """
    folder = Path(folder)
    if not folder.is_dir():
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
    return records


def read_image_folder(folder: Path) -> list[Record]:
    """Read `metadata.jsonl`, one JSON object a line, with paths relative to the folder.

    `file_name` is required; `text`, `depth_file_name` and `depth_kind` ("metres", the default, or "disparity") are not.
    """
    return [_record(folder, place, row) for place, row in read_json_lines(folder / METADATA)]


def read_pascal_voc(folder: Path) -> list[Record]:
    """List `JPEGImages/*.jpg`, the disparity in `Depth/*.png` where it exists, and captions of the annotated objects."""
    images = sorted((folder / "JPEGImages").glob("*.jpg"))
    depths = {path.stem: path for path in (folder / "Depth").glob("*.png")}
    return [Record(path, _objects(folder, path.stem), depths.get(path.stem), "disparity") for path in images]


def _record(folder: Path, place: str, row: dict) -> Record:
    if "file_name" not in row:
        raise ValueError(f"{place}: no file_name.")
    kind = row.get("depth_kind", "metres")
    if kind not in KINDS:
        raise ValueError(f"{place}: depth_kind is {' or '.join(KINDS)}, not {kind!r}.")
    depth = row.get("depth_file_name")
    return Record(folder / row["file_name"], row.get("text") or "", folder / depth if depth else None, kind)


def _objects(folder: Path, stem: str) -> str:
    path = folder / "Annotations" / f"{stem}.xml"
    if not path.is_file():
        return ""
    counts = Counter(node.findtext("name") for node in ElementTree.parse(path).iter("object"))
    return "a photo of " + " and ".join(name if n == 1 else f"{n} {name}s" for name, n in counts.items())


def _check_files(folder: Path, records: list[Record]) -> None:
    files = [path for record in records for path in (record.image, record.depth) if path]
    missing = [path for path in files if not path.is_file()]
    if missing:
        raise FileNotFoundError(f"{folder} names {len(missing)} files that do not exist, the first {missing[0]}.")
