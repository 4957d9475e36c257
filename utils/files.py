"""Writing files so that a reader never meets half of one, and nothing that is read is replaced."""

import contextlib
import errno
import glob
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

NAME_BYTES = 255  # of file systems that do not say how long a name may be
LONGEST_SUFFIX = 16  # bytes; writers tell formats by suffixes, and none of these is longer


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block ends well; works for files and for folders.

    It has the same suffix. Parent folders are made. What the block leaves is removed when it fails. A folder is
    replaced with all that is in it, and by a folder alone.

    Raises:
        ValueError: The name is longer than the folder takes.
        FileExistsError: `path` is a folder, and the block made a file.
    """
    path = Path(path)
    check_name(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{os.getpid()}-{_temporary_end(path)}")
    try:
        yield temporary
        share_weights(temporary)
        if path.is_dir() and not temporary.is_dir():
            raise FileExistsError(f"{path} is a folder and was to become a file: move it, or choose another output.")
        if path.is_dir():
            shutil.rmtree(path)
        temporary.replace(path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        temporary.unlink(missing_ok=True)


def share_weights(path: Path) -> None:
    """Give weights, which safetensors lets their owner alone read, the permissions of other new files."""
    files = [*path.rglob("*.safetensors")] if path.is_dir() else [path] if path.suffix == ".safetensors" else []
    if files:
        os.umask(umask := os.umask(0o077))  # it cannot be read without being set
        for file in files:
            file.chmod(0o666 & ~umask)


def remove_leftovers(path: Path) -> None:
    """Remove what an interruption left of `path` while it was written within `replacing`."""
    # Names may hold dashes, so what another file is being written to can end like this one's.
    end = _temporary_end(path)
    ours = re.compile(rf"\.tmp-\d+-{re.escape(end)}")
    for leftover in path.parent.glob(f".tmp-*-{glob.escape(end)}"):
        if not ours.fullmatch(leftover.name):
            continue
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()


def check_name(path: str | Path) -> None:
    """Raise a ValueError where the name of a file that is to be written is longer than its folder takes."""
    path = Path(path)
    for part, folder in ((place.name, place.parent) for place in (path, *path.parents)):
        length, most = len(os.fsencode(part)), _name_bytes(folder)
        if length > most:
            shown = part if len(part) <= 40 else f"{part[:40]}…"
            raise ValueError(
                f"{shown} has {length} bytes, and a name in {folder} {most} at most: "
                "shorten the name that it comes from."
            )


def check_writable(path: str | Path, flag: str) -> None:
    """Raise an OSError or ValueError with one sentence where a file or folder cannot be made, or written into.

    A file is made and removed again in the folder, or in the first of its parents that exists.

    Args:
        flag: What the user passed it by, such as "--output_dir".
    """
    path = Path(path)
    check_name(path)
    for place in (path, *path.absolute().parents):
        if place.is_symlink() and not place.exists():
            raise FileExistsError(f"{flag} {path}: {place} is a link that leads nowhere; remove it or choose another.")
    folder = next(place for place in (path, *path.absolute().parents) if place.exists())
    if folder.is_file() and folder != path:
        raise FileExistsError(f"{flag} {path}: {folder} is a file; choose another folder.")
    folder = folder.parent if folder.is_file() else folder
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(
            f"{flag} {path}: nothing can be written in {folder} ({error.strerror}); choose another."
        ) from error


def check_not_read(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Raise a ValueError where an output is, or lies in, something that is read; links are followed."""
    outputs, read = list(outputs), set(real_paths(inputs))
    for output, real in zip(outputs, map(Path, real_paths(outputs)), strict=True):
        if hit := next((place for place in (real, *real.parents) if str(place) in read), None):
            raise ValueError(
                f"{output} is to be written and would replace {hit}, which is read; choose another output."
            )


def real_paths(paths: Iterable[Path]) -> Iterator[str]:
    """Absolute paths with links followed; each folder is resolved once, since data sets have many files in few."""
    folders: dict[Path, str] = {}
    for path in paths:
        if os.path.islink(path):
            yield os.path.realpath(path)
            continue
        if path.parent not in folders:
            folders[path.parent] = os.path.realpath(path.parent)
        yield os.path.normpath(os.path.join(folders[path.parent], path.name))


def is_file(path: str | Path) -> bool:
    """Whether there is such a file; also for names that no folder takes."""
    return _answer(Path(path).is_file)


def is_folder(path: str | Path) -> bool:
    """Whether there is such a folder; also for names that no folder takes."""
    return _answer(Path(path).is_dir)


def _answer(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise


def _temporary_end(path: Path) -> str:
    """The name of the file, or where that would be too long, a digest of it with its suffix."""
    longest_head = len(f".tmp-{2**22}-")  # process ids end there
    if longest_head + len(os.fsencode(path.name)) <= _name_bytes(path.parent):
        return path.name
    suffix = path.suffix if len(os.fsencode(path.suffix)) <= LONGEST_SUFFIX else ""
    return hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16] + suffix


def _name_bytes(folder: Path) -> int:
    """How many bytes a name in a folder may have, as the file system of it or of its first existing parent says."""
    for place in (folder, *folder.parents):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            return os.pathconf(place, "PC_NAME_MAX")
    return NAME_BYTES
