"""What a long command has finished, so that it can be interrupted and started again."""

import codecs
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from utils.files import replacing
from utils.formats.text import decode, json_line, parse_json_lines, read_json_lines
from utils.messages.words import count


class Journal:
    """A file with one JSON object a line, appended as work gets done; a line that an interruption cut off is dropped.

    Args:
        path: The file, there or not.
        keys: Those that each line has.

    Raises:
        FileExistsError: The file is something else.
    """

    def __init__(self, path: Path, keys: Sequence[str]):
        self.path = path
        self.rows, cut = _read(path)
        begin = f'{{"{keys[0]}": '.encode()
        if not all(row.keys() >= set(keys) for row in self.rows) or cut[: len(begin)] != begin[: len(cut)]:
            raise FileExistsError(f"{path} is not from an earlier run; choose another --output_dir.")
        self.keep(lambda row: True)

    def keep(self, condition: Callable[[dict], bool]) -> None:
        """Drop the rows that do not fulfil it."""
        self.rows = [row for row in self.rows if condition(row)]
        if self.path.is_file():
            with replacing(self.path) as temporary:
                temporary.write_text("".join(map(json_line, self.rows)), encoding="utf-8")


def append_row(path: Path, row: dict) -> None:
    """Append to a journal, in one write, so that several processes may."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as file:
        file.write(json_line(row).encode())


def read_rows(path: Path) -> list[dict]:
    """The complete lines of a journal; none where there is no file."""
    return _read(path)[0]


def _read(path: Path) -> tuple[list[dict], bytes]:
    """The complete lines, and what an interruption has left behind them."""
    if not path.is_file():
        return [], b""
    data = path.read_bytes()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # saved so by an editor, whole
        return [row for _, row in read_json_lines(path)], b""
    whole, end, tail = data.rpartition(b"\n")
    try:
        json.loads(tail)
    except (ValueError, RecursionError):
        data, cut = whole + end, tail
    else:
        data, cut = whole + end + tail, b""  # an editor leaves out the last end of line
    return [row for _, row in parse_json_lines(decode(data, str(path)), str(path))], cut


def say_finished(done: str, kept: int, skipped: int) -> str:
    """What a command says at its end, behind the number of what it has done now."""
    return f"{done}, {kept} already there, {count(skipped, 'bad one')} left out"


def check_same(path: Path, made_with: dict, asked_for: dict) -> None:
    """Raise a ValueError that names the first setting in which earlier work and this run differ."""
    for name, value in asked_for.items():
        if made_with.get(name) != value:
            raise ValueError(
                f"{path} was begun with {name}={made_with.get(name)!r} and not {value!r}; "
                "use that again, or choose another --output_dir."
            )
