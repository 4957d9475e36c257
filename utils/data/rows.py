"""What a row of a data set may hold: paths, rates and captions, checked before any work; errors name the row.

A caption is the first of `CAPTION_KEYS` that a row has and that is neither null nor blank, in metadata.jsonl, in JSON
lists and in a .json beside a clip alike.
"""

import reprlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from utils.messages.notices import notice

CAPTION_KEYS = ("text", "caption", "prompt", "description")
MIN_FPS, MAX_FPS = 1e-3, 1e5


def read_path(place: str, row: dict, key: str) -> str | None:
    """The path under a key; None where the row has none.

    Raises:
        ValueError: It is no text.
    """
    value = row.get(key)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(f"{place}: {key}={reprlib.repr(value)} is no text; write the path of a file.")
    return value


def read_rate(place: str, row: dict) -> float | None:
    """Frames per second under "fps"; None where the row has none.

    Raises:
        ValueError: It is no number, or none that a clip can have.
    """
    value = row.get("fps")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{place}: fps={reprlib.repr(value)} is no number.")
    check_rate(place, value)
    return value


def check_rate(place: str, fps: float) -> None:
    """Raise a ValueError for a rate that no clip has."""
    if not MIN_FPS <= fps <= MAX_FPS:  # also refuses nan
        raise ValueError(f"{place}: fps={reprlib.repr(fps)} is not in {MIN_FPS:g} to {MAX_FPS:g} frames per second.")


def read_row_caption(place: str, row: dict) -> tuple[str, str]:
    """The caption of a row and the key that it stands under; both empty where the row has none.

    Raises:
        ValueError: It is no text.
    """
    key = next((key for key in CAPTION_KEYS if not _is_empty(row.get(key))), "")
    caption = row[key] if key else ""
    if not isinstance(caption, str):
        raise ValueError(f"{place}: {key}={reprlib.repr(caption)} is no text; write one caption.")
    try:
        caption.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{place}: {key}={caption!a} holds half a letter (a lone surrogate).") from error
    return caption, key


def _is_empty(value) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def say_captions(path: Path, sources: Iterable[str]) -> None:
    """Print to stderr where captions come from, or that there are none; `sources` has a key for each, "" for none."""
    counts = Counter(sources)
    total, none = counts.total(), counts.pop("", 0)
    if none == total:
        keys = ", ".join(CAPTION_KEYS)
        notice(
            f"{path}: none of {total} has a caption; rows have it under one of {keys}, clips in a .txt or .json beside."
        )
        return
    found = ", ".join(f'"{source}" ({count})' for source, count in counts.items())
    notice(f"{path}: {total - none} of {total} have a caption, from {found}.")
