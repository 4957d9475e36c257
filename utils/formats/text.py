"""Text files that people write: the one reader of captions, lists, tracks and settings.

Encoding. A byte order mark decides (UTF-8, UTF-16, UTF-32). Without one the bytes are UTF-8, and where they are not,
Windows-1252, the superset of Latin-1 that Western programs write; what it leaves undefined is read as Latin-1. Zero
bytes without a mark are refused: the file is no text, or UTF-16 that does not say so. Errors name the file.
"""

import codecs
import csv
import json
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any, Protocol

from utils.messages.notices import notice

MARKS = {  # UTF-32 first: its mark begins like that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
MARK = "\ufeff"
MAX_DEPTH = 100  # of lists and objects in one another; nothing that people write for us comes near


class File(Protocol):
    """A path, or what is read like one."""

    def read_bytes(self) -> bytes: ...


def read_text(path: str | File) -> str:
    """The text of a file, decoded as the head of this module says; ends of lines become \\n.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds no text.
    """
    file = Path(path) if isinstance(path, str) else path
    text = decode(file.read_bytes(), str(path)).replace("\r\n", "\n").replace("\r", "\n")
    # Files that were put together have a mark in front of each part.
    return text.removeprefix(MARK).replace(f"\n{MARK}", "\n")


def decode(data: bytes, name: str) -> str:
    """Text of bytes; `name` is what errors call them."""
    for mark, encoding in MARKS.items():
        if data.startswith(mark):
            return _decode_as(data, encoding, name)
    if b"\0" in data:
        raise ValueError(f"{name} holds zero bytes and is no text; save it as UTF-8, or as UTF-16 with its mark.")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        notice(f"{name} is not UTF-8 and is read as Windows-1252, as others like it are.", "encoding")
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def read_json(path: str | File) -> Any:
    """What a JSON file holds.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds no JSON, or lists and objects nested more than `MAX_DEPTH` deep.
    """
    return _parse(read_text(path), f"{path} is")


def read_json_lines(path: Path) -> Iterator[tuple[str, dict]]:
    """The place of each object of a file with one a line, for messages, and the object; empty lines are passed over.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A line holds something else.
    """
    yield from parse_json_lines(read_text(path), str(path))


def parse_json_lines(text: str, name: str) -> Iterator[tuple[str, dict]]:
    """`read_json_lines` of a text; `name` is what errors call it."""
    # Not splitlines: a caption may hold other separators, such as U+2028, which JSON leaves as they are.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        place = f"{name}, line {number}"
        row = _parse(line, f"{place}:", "; write one object a line")
        if not isinstance(row, dict):
            raise ValueError(f'{place}: no JSON object; write one a line, such as {{"file_name": "0.png"}}.')
        yield place, row


def json_line(row: dict) -> str:
    """A row of such a file, with its end of line; letters stay as they are wherever UTF-8 has them."""
    line = json.dumps(row, ensure_ascii=False)
    try:
        line.encode()
    except UnicodeEncodeError:  # names of files that are not UTF-8
        line = json.dumps(row)
    return line + "\n"


def read_csv(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Columns and rows of a csv file with a header, fields of any length; what a short row lacks is empty.

    Blanks behind a comma do not count.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read.
    """
    before = csv.field_size_limit(sys.maxsize)
    try:
        text = read_text(path)
        _check_quotes(text)
        reader = csv.DictReader(StringIO(text, newline=""), restval="", skipinitialspace=True)
        return list(reader.fieldnames or ()), list(reader)
    except csv.Error as error:
        raise ValueError(f"{path} cannot be read as csv: {error}.") from error
    finally:
        csv.field_size_limit(before)


def _check_quotes(text: str) -> None:
    """Raise a csv.Error where the last field is quoted and never ends, since it would swallow the rows behind."""
    if text.count('"') % 2 == 0:
        return
    try:
        for _ in csv.reader(StringIO(text, newline=""), skipinitialspace=True, strict=True):
            pass
    except csv.Error as error:
        if "unexpected end of data" in str(error):
            raise csv.Error("a field begins with a quotation mark and has none at its end") from error


def _parse(text: str, lead: str, remedy: str = "") -> Any:
    """The value of one JSON text; `lead` begins the sentences about it, and `remedy` ends them."""
    try:
        content = json.loads(text)
        deep = _is_deep(content)
    except RecursionError:
        deep = True
    except ValueError as error:  # JSONDecodeError, and numbers of thousands of digits
        raise ValueError(f"{lead} not JSON ({' '.join(str(error).split())}){remedy}.") from error
    if deep:
        raise ValueError(f"{lead} nested more than {MAX_DEPTH} lists or objects deep; write it flat.")
    return content


def _decode_as(data: bytes, encoding: str, name: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} begins with the mark of {encoding} and is not: {error.reason}.") from error


def _is_deep(content: Any) -> bool:
    level = [content]
    for _ in range(MAX_DEPTH + 1):
        nested = (
            value.values() if isinstance(value, dict) else value for value in level if isinstance(value, dict | list)
        )
        level = [child for values in nested for child in values if isinstance(child, dict | list)]
        if not level:
            return False
    return True
