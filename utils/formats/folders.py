"""What a folder holds, in the order in which a person counts: the one lister of all files that are read from folders.

Names are compared part by part, text without regard to case and numbers by value, whatever digits they are written in,
so that `img_2_640x480.png` comes before `img_10_640x480.png` and `٩.png` before `١٠.png`; the name itself decides
between equals. What systems and editors leave behind is passed over: names that begin with a dot (`._a.jpg`,
`.DS_Store`), `Thumbs.db`, `a.png~`, `__MACOSX/`, and the like.
"""

import os
import re
import unicodedata
from collections.abc import Collection, Iterator
from pathlib import Path, PurePath

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".tif", ".tiff"}
LEFTOVERS = {
    ".ds_store",
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "icon\r",
    "__macosx",
    "__pycache__",
    "@eadir",
    "#recycle",
    "$recycle.bin",
    "system volume information",
    "lost+found",
}


def natural_key(path: str | PurePath) -> tuple:
    """Sorts paths as people count: by folder, then by stem, then by suffix."""
    parts = PurePath(path).parts
    return tuple(_name_key(part) for part in parts)


def is_leftover(name: str) -> bool:
    """Whether a file or folder of this name was left by a system or an editor."""
    if name in (os.curdir, os.pardir):
        return False
    return name.startswith((".", "~$")) or name.endswith("~") or name.casefold() in LEFTOVERS or _is_autosave(name)


def has_content(folder: str | Path) -> bool:
    """Whether a folder holds more than what systems put into each folder that they show."""
    return bool(list_content(folder))


def list_content(folder: str | Path) -> list[str]:
    """Sorted names of what a folder holds besides what systems put into each folder that they show."""
    return sorted(n for n in os.listdir(folder) if not n.startswith("._") and n.casefold() not in LEFTOVERS)


def list_files(folder: str | Path, suffixes: Collection[str]) -> list[Path]:
    """Files of a folder with one of these suffixes, in any case, in natural order.

    Args:
        folder: An existing folder.
        suffixes: Lower case, with their dot.
    """
    names = [name for name in os.listdir(folder) if _matches(name, suffixes)]
    paths = [path for name in names if not (path := Path(folder, name)).is_dir()]
    return sorted(paths, key=natural_key)


def walk_files(folder: str | Path, suffixes: Collection[str] | None = None) -> list[Path]:
    """Files at any depth of a folder in natural order, of these suffixes or all; links to folders are not followed."""
    return sorted(
        (path for path in _walk(folder) if suffixes is None or _matches(path.name, suffixes)), key=natural_key
    )


def _walk(folder: str | Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not is_leftover(name)]
        yield from (Path(place, name) for name in names if not is_leftover(name))


def _matches(name: str, suffixes: Collection[str]) -> bool:
    return PurePath(name).suffix.lower() in suffixes and not is_leftover(name)


def _is_autosave(name: str) -> bool:
    return len(name) > 2 and name.startswith("#") and name.endswith("#")


def _name_key(name: str) -> tuple:
    path = PurePath(name)
    return _chunks(path.stem), _chunks(path.suffix), name


def _chunks(text: str) -> tuple:
    """Text and numbers in turn, text first; a number as its count of digits and its digits, which orders by value."""
    chunks = re.split(r"(\d+)", unicodedata.normalize("NFKC", text).casefold())
    chunks[1::2] = [_number(digits) for digits in chunks[1::2]]
    return tuple(chunks)


def _number(digits: str) -> tuple[int, str]:
    plain = "".join(str(unicodedata.decimal(digit)) for digit in digits).lstrip("0")
    return len(plain), plain
