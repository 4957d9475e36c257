"""What a long command has finished, so that it can be interrupted and started again."""

import glob
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from utils.files import replacing


class Journal:
    """A file with one JSON object a line, appended as work gets done; a line that an interruption cut off is dropped."""

    def __init__(self, path: Path):
        self.path = path
        self.rows = read_rows(path)
        self.keep(lambda row: True)

    def keep(self, condition: Callable[[dict], bool]) -> None:
        """Drop the rows that do not fulfil it."""
        self.rows = [row for row in self.rows if condition(row)]
        if self.path.is_file():
            with replacing(self.path) as temporary:
                temporary.write_text("".join(map(_line, self.rows)), encoding="utf-8")


def append_row(path: Path, row: dict) -> None:
    """Append to a journal, in one write, so that several processes may."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as file:
        file.write(_line(row).encode())


def read_rows(path: Path) -> list[dict]:
    """The complete lines of a journal; none where there is no file."""
    if not path.is_file():
        return []
    # Not splitlines: a caption may hold other separators, such as U+2028, which JSON leaves as they are.
    *lines, _ = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines]


def remove_leftovers(path: Path) -> None:
    """Remove what an interruption left of `path` while it was written within `utils.files.replacing`."""
    # Names may hold dashes, so what another clip is being written to can end like this one's.
    ours = re.compile(rf"\.tmp-\d+-{re.escape(path.name)}")
    for leftover in path.parent.glob(f".tmp-*-{glob.escape(path.name)}"):
        if not ours.fullmatch(leftover.name):
            continue
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()


def check_same(path: Path, made_with: dict, asked_for: dict) -> None:
    """Raise a ValueError that names the first setting in which earlier work and this run differ."""
    for name, value in asked_for.items():
        if made_with.get(name) != value:
            raise ValueError(
                f"{path} was begun with {name}={made_with.get(name)!r} and not {value!r}; "
                "use that again, or choose another --output_dir."
            )


def _line(row: dict) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"
