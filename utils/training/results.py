"""The result of a training, written so that an interruption or a full disk costs no earlier one."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from utils.files import replacing


def save_parts(folder: Path, write: Callable[[Path], object]) -> None:
    """Write parts of a model into a folder that holds other things, too.

    All are written under a temporary name before the first takes its place; folders do so before files.

    Args:
        write: Writes them into a folder that it makes.
    """
    temporary = folder / f".tmp-{os.getpid()}-result"
    try:
        write(temporary)
        for part in sorted(temporary.iterdir(), key=lambda part: (part.is_file(), part.name)):
            with replacing(folder / part.name) as place:
                part.rename(place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
