"""Rows of a long measurement in small files, so that a run that was stopped goes on where it was.

A folder holds `settings.json` and, for each task, `partial/{task}/{first index}.json`, each written once.
"""

import ast
import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from utils.files import replacing

SHOWN = 8  # samples of a task that its sheet shows
Chunk = tuple[list[dict], list[list[Image.Image]]]


def open_folder(folder: Path, settings: dict, overwrite: bool, defaults: dict | None = None) -> None:
    """Make a folder of results, or go on in it.

    Args:
        settings: All that decides the results.
        overwrite: Drop results of other settings.
        defaults: Settings that an older folder may lack, with the values that it was measured with.

    Raises:
        FileExistsError: The folder holds something else, or results of other settings, and `overwrite` is not set.
    """
    path = folder / "settings.json"
    settings = json.loads(json.dumps(settings))
    if path.is_file():
        before = {key: (defaults or {}).get(key) for key in settings} | json.loads(path.read_text())
        changed = [key for key in before if before[key] != settings.get(key)]
        if not changed:
            return
        if not overwrite:
            key = changed[0]
            raise FileExistsError(
                f"{folder} holds results with {key} {before[key]!r}, not {settings.get(key)!r}: choose another "
                "--output_dir or pass --overwrite."
            )
    elif not overwrite:
        check_empty(folder, "choose another --output_dir or pass --overwrite")
    for old in [*sorted((folder / "partial").glob("*/*")), folder / "runs.jsonl"]:
        old.unlink(missing_ok=True)
    write_text(path, json.dumps(settings, indent=2) + "\n")


def check_empty(folder: Path, remedy: str = "choose another --output_dir") -> None:
    """Raises FileExistsError for a folder with content."""
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise FileExistsError(f"{folder} has content: {remedy}.")


def run_in_chunks(folder: Path, task: str, count: int, size: int, compute: Callable[[range], Chunk]) -> list[dict]:
    """Rows of all samples of a task; those on disk are read, the others computed.

    Args:
        folder: The folder of results.
        task: Its name, also that of its files.
        count: Number of samples.
        size: Samples computed at once.
        compute: From indices to a row (figures by name) for each, and to columns of images for the sheet.
    """
    place = folder / "partial" / task
    rows = []
    for start in tqdm(range(0, count, size), desc=task):
        path = place / f"{start:06d}.json"
        if not path.is_file():
            computed, columns = compute(range(start, min(start + size, count)))
            if start == 0 and columns:
                save_sheet(place / "picture.png", columns)
            write_text(path, json.dumps(computed))
        rows += json.loads(path.read_text())
    return rows


def read_rows(folder: Path, task: str, count: int) -> list[dict]:
    """All rows of a task; none while some are missing."""
    parts = sorted((folder / "partial" / task).glob("*.json"))
    rows = [row for part in parts for row in json.loads(part.read_text())]
    return rows if len(rows) == count else []


def save_sheet(path: Path, columns: list[list[Image.Image]]) -> None:
    stacked = [np.concatenate([np.asarray(image.convert("RGB")) for image in column]) for column in columns]
    with replacing(path) as temporary:
        Image.fromarray(np.concatenate(stacked, axis=1)).save(temporary)


def write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text)


def digest(paths: Iterable[Path]) -> str:
    """A hash of the names and contents of files, so that new weights under an old name count as other settings.

    Of Python files the code counts, without docstrings and comments.
    """
    content = hashlib.sha256()
    for path in sorted(paths):
        content.update(path.name.encode())
        if path.suffix == ".py":
            content.update(code_of(path).encode())
        else:
            with path.open("rb") as file:
                content.update(hashlib.file_digest(file, "sha256").digest())
    return content.hexdigest()[:16]


def code_of(path: Path) -> str:
    """The code of a Python file in one layout, without docstrings and comments."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            node.body[0] = ast.Pass()
    return ast.unparse(tree)
