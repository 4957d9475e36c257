"""Files with one JSON object a line, written by people."""

import json
from collections.abc import Iterator
from pathlib import Path


def read_json_lines(path: Path) -> Iterator[tuple[str, dict]]:
    """The place of each object, for messages, and the object; empty lines are passed over.

    Raises:
        ValueError: A line holds something else.
    """
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            place = f"{path}, line {number}"
            if line.strip():
                yield place, _read_object(place, line)


def _read_object(place: str, line: str) -> dict:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{place}: not JSON ({error}).") from error
    if not isinstance(row, dict):
        raise ValueError(f"{place}: no JSON object.")
    return row
