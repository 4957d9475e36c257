"""Where the depth of a folder of images lies or is to be written: never on an input or on a file of somebody else.

Depth is written into a folder of its own inside the data set: `Depth` of PascalVOC, `depth` of any other. There a file
counts as depth of an image where the metadata names it, or where it says itself that it was made of just that image, as
an interrupted run leaves it. A name that the metadata gives and that is free is kept. Whatever else lies in the way is
left alone, and the depth gets another name.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from utils.data.records import METADATA, list_voc_depths, read_image_folder
from utils.depth import read_about
from utils.files import NAME_BYTES, check_name, check_not_read, is_file, is_folder
from utils.formats.folders import IMAGE_SUFFIXES, list_files
from utils.formats.text import read_json_lines

SOURCE_KEY = "Depth of"  # text chunk of the images that are made here: digests of the image's name and content
VOC_IMAGES = "JPEGImages"


@dataclass(frozen=True)
class DepthPlace:
    """The depth of one image.

    Attributes:
        image: File that it is made of.
        file: File that holds it.
        is_done: Whether it is there and stays.
        is_ours: Whether it is made here, so that it holds disparity.
    """

    image: Path
    file: Path
    is_done: bool
    is_ours: bool = True


def is_pascal_voc(folder: Path) -> bool:
    """Whether a folder is read as PascalVOC, which has no metadata."""
    return (folder / VOC_IMAGES).is_dir() and not (folder / METADATA).is_file()


def plan_voc(folder: Path, overwrite: bool) -> list[DepthPlace]:
    """The places of PascalVOC, `Depth/<stem>.png`.

    Raises:
        ValueError: There is no image, or two would share a depth image.
    """
    existing = list_voc_depths(folder)
    images = list_files(folder / VOC_IMAGES, IMAGE_SUFFIXES)
    files = [existing.get(image.stem, folder / "Depth" / f"{image.stem}.png") for image in images]
    places = [
        DepthPlace(image, file, image.stem in existing and not overwrite)
        for image, file in zip(images, files, strict=True)
    ]
    _check(folder, places)
    return places


def plan_folder(folder: Path, rows: Sequence[dict], overwrite: bool) -> list[DepthPlace]:
    """The place of the depth of each row of the metadata; rows of one image share it, unless each names its own.

    Raises:
        FileNotFoundError: An image is missing.
        ValueError: Two images would share a depth image, or the metadata takes an image for depth.
    """
    images = [folder / row["file_name"] for row in rows]
    if missing := [image for image in images if not is_file(image)]:
        raise FileNotFoundError(f"{folder} lists images that do not exist: {len(missing)}, the first {missing[0]}.")
    read = {os.path.realpath(image) for image in images}
    found, places = {}, []
    for row, image in zip(rows, images, strict=True):
        named = folder / row["depth_file_name"] if row.get("depth_file_name") else None
        place = _existing_place(image, named, read, overwrite) if named and is_file(named) else None
        real = os.path.realpath(image)
        if place is None:
            place = found[real] = found.get(real) or _new_place(folder, image, named, read, overwrite)
        places.append(place)
    _check(folder, places)
    return places


def list_rows(folder: Path) -> list[dict]:
    """The metadata of a folder, or a row for each of its images.

    Raises:
        ValueError: The metadata cannot be read.
    """
    if (folder / METADATA).is_file():
        read_image_folder(folder)
        return [row for _, row in read_json_lines(folder / METADATA)]
    return [{"file_name": path.name, "text": ""} for path in list_files(folder, IMAGE_SUFFIXES)]


def with_depth(folder: Path, row: dict, place: DepthPlace) -> dict:
    """A row that names what is made here with its kind; one whose depth somebody else has made stays as it is."""
    if not place.is_ours:
        return row
    named = row.get("depth_file_name")
    kept = named and folder / named == place.file
    name = named if kept else Path(os.path.relpath(place.file, folder)).as_posix()
    return {**row, "depth_file_name": name, "depth_kind": "disparity"}


def source_of(image: Path) -> str:
    """Name and content of an image, as a depth image keeps them."""
    return f"{_digest(image.name)} {hashlib.sha256(image.read_bytes()).hexdigest()}"


def _existing_place(image: Path, file: Path, read: set[str], overwrite: bool) -> DepthPlace | None:
    """A file that the metadata names; None where it is to be made anew and somebody else has made it, which stays."""
    if os.path.realpath(file) in read:
        raise ValueError(
            f"{METADATA} names {file} as depth of {image}, and it is an image; remove that depth_file_name."
        )
    ours = SOURCE_KEY in read_about(file)
    return DepthPlace(image, file, not overwrite, ours) if ours or not overwrite else None


def _new_place(folder: Path, image: Path, named: Path | None, read: set[str], overwrite: bool) -> DepthPlace:
    relative = Path(os.path.relpath(image, folder))
    candidates = [named] if named and named.suffix.lower() == ".png" and _is_inside(named, folder) else []
    if relative.parts[0] == VOC_IMAGES:
        candidates.append(Path(folder, "Depth", *relative.parts[1:]).with_suffix(".png"))
    elif ".." not in relative.parts:
        candidates.append(folder / "depth" / relative.with_suffix(".png"))
    candidates.append(folder / "depth" / _name_apart(image))
    for file in candidates:
        made_of = read_about(file).get(SOURCE_KEY, "")
        is_free = made_of.startswith(_digest(image.name)) or not os.path.lexists(file)
        if is_free and os.path.realpath(file) not in read:
            return DepthPlace(image, file, bool(made_of) and made_of == source_of(image) and not overwrite)
    raise ValueError(f"{candidates[-1]} is to get the depth of {image} and holds something else; move it away.")


def _is_inside(file: Path, folder: Path) -> bool:
    return Path(os.path.realpath(file)).is_relative_to(os.path.realpath(folder))


def _name_apart(image: Path) -> str:
    """A name that no other image gets."""
    digest = _digest(os.path.realpath(image))
    name = f"{image.stem}-{digest}.png"
    return name if len(os.fsencode(name)) <= NAME_BYTES else f"{digest}.png"


def _digest(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:16]


def _check(folder: Path, places: Sequence[DepthPlace]) -> None:
    if not places:
        raise ValueError(f"{folder} has no image.")
    images = {os.path.realpath(place.image): place.image for place in places}
    pairs = {(os.path.realpath(place.image), os.path.realpath(place.file)) for place in places}
    shared, count = Counter(file for _, file in pairs).most_common(1)[0]
    if count > 1:
        shared = os.path.relpath(shared, os.path.realpath(folder))
        raise ValueError(f"{count} images of {folder} would share {shared}; give them different names.")
    for place in places:
        check_name(place.file)
        above = next(folder for folder in place.file.parents if os.path.lexists(folder))
        if not is_folder(above):
            raise ValueError(f"{above} is to be a folder of depth and is a file; move it away.")
    check_not_read([place.file for place in places if not place.is_done], images.values())
