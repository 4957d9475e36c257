"""A file of a data set: on its own, or inside a tar."""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from utils.files import is_file
from utils.formats.folders import is_leftover

BLOCK = 512  # tar pads to it


@dataclass(frozen=True)
class Member:
    """A file inside an uncompressed tar, read from its place there without unpacking."""

    archive: Path
    file_name: str
    offset: int
    size: int

    def read_bytes(self) -> bytes:
        with self.archive.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)

    @property
    def suffix(self) -> str:
        return Path(self.file_name).suffix

    def __str__(self) -> str:
        return f"{self.archive}/{self.file_name}"


File = Path | Member


def list_members(archive: Path) -> Iterator[Member]:
    """The files in a tar, in its order, without what systems left; only their headers are read.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no uncompressed tar, or is cut short.
    """
    if not is_file(archive):
        raise FileNotFoundError(f"There is no shard {archive}.")
    size, end = archive.stat().st_size, 0
    try:
        with tarfile.open(archive, "r:") as tar:
            for info in tar:
                end = info.offset_data + -(-info.size // BLOCK) * BLOCK
                if end > size:
                    raise ValueError(f"{archive} is cut short in {info.name}.")
                if info.isfile() and not any(map(is_leftover, info.name.split("/"))):
                    yield Member(archive, info.name.removeprefix("./"), info.offset_data, info.size)
    except tarfile.TarError as error:
        raise ValueError(f"{archive} cannot be read as an uncompressed tar: {error}.") from error
    # tarfile takes a header that it cannot read for the end, which is a block of zeros.
    if any(Member(archive, "", end, BLOCK).read_bytes()):
        raise ValueError(f"{archive} is damaged or cut short after byte {end}.")
