"""Long measurements in small pieces on disk, so that a run that was stopped goes on where it was.

An output folder holds `settings.json` and, for each task, `partial/{task}/{first index}.json`, each written at once and never again.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from utils.files import replacing

SHOWN = 8  # samples of a task that are shown in its picture
Chunk = tuple[list[dict], list[list[Image.Image]]]


def open_folder(folder: Path, settings: dict, overwrite: bool) -> None:
    """Make the folder, or go on in it.

    settings: All that decides the results. A folder of other settings is left alone; one that lacks a setting counts as if it had None.

    Raises:
        FileExistsError: The folder holds something else, or results of other settings, and `overwrite` is not set.
    """
    path = folder / "settings.json"
    if path.is_file():
        before = json.loads(path.read_text())
        changed = [key for key in {**before, **settings} if before.get(key) != settings.get(key)]
        if not changed:
            return
        if not overwrite:
            raise FileExistsError(
                f"{folder} holds results with {changed[0]} {before.get(changed[0])!r}, not {settings.get(changed[0])!r}: choose "
                "another --output_dir or pass --overwrite."
            )
    elif folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise FileExistsError(f"{folder} has content: choose another --output_dir or pass --overwrite.")
    for old in sorted((folder / "partial").glob("*/*")):
        old.unlink()
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(settings, indent=2) + "\n")


def run_in_chunks(folder: Path, task: str, count: int, size: int, compute: Callable[[range], Chunk]) -> list[dict]:
    """The rows of all samples of a task, those on disk read and the others computed.

    compute: From indices to a row (numbers by name) for each, and up to `SHOWN` columns of pictures of the first ones.
    """
    place = folder / "partial" / task
    rows = []
    for start in tqdm(range(0, count, size), desc=task):
        path = place / f"{start:06d}.json"
        if not path.is_file():
            computed, columns = compute(range(start, min(start + size, count)))
            if start == 0 and columns:
                save_picture(place / "picture.png", columns)
            with replacing(path) as temporary:
                temporary.write_text(json.dumps(computed))
        rows += json.loads(path.read_text())
    return rows


def save_picture(path: Path, columns: list[list[Image.Image]]) -> None:
    stacked = [np.concatenate([np.asarray(picture.convert("RGB")) for picture in column]) for column in columns]
    with replacing(path) as temporary:
        Image.fromarray(np.concatenate(stacked, axis=1)).save(temporary)


def digest(paths: Iterable[Path]) -> str:
    """A hash of the content of files, so that new weights under an old name are not taken for the old ones."""
    content = hashlib.sha256()
    for path in sorted(paths):
        content.update(path.name.encode())
        with path.open("rb") as file:
            content.update(hashlib.file_digest(file, "sha256").digest())
    return content.hexdigest()[:16]
