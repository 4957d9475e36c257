"""Files of numpy arrays that people pass to a command; whatever is wrong with one becomes a sentence with its name."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import BadZipFile
from zlib import error as ZlibError

import numpy as np

BROKEN = (ValueError, EOFError, OSError, MemoryError, KeyError, BadZipFile, ZlibError, NotImplementedError)


def open_array(path: Path, mmap: bool = True) -> np.ndarray:
    """The array of an .npy file; with `mmap` its numbers are read where they are used.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds no array, several, or Python objects.
    """
    with _one_sentence(path, "an array of numbers"):
        array = np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)
    if not isinstance(array, np.ndarray):
        array.close()
        raise ValueError(f"{path} is an archive of several arrays; save one array with numpy.save.")
    return array


def read_arrays(path: Path, *names: str) -> list[np.ndarray]:
    """Arrays of an .npz file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no such archive, or lacks one of the names.
    """
    with _one_sentence(path, "an archive of arrays"):
        archive = np.load(path, allow_pickle=False)
    if isinstance(archive, np.ndarray):
        raise ValueError(f"{path} is one array and no archive of {' and '.join(names)}; write it with numpy.savez.")
    with archive, _one_sentence(path, "an archive of arrays"):
        if missing := [name for name in names if name not in archive]:
            raise ValueError(f"it lacks {missing[0]} and has {', '.join(archive.files) or 'nothing'}")
        return [archive[name] for name in names]


@contextmanager
def _one_sentence(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except BROKEN as error:
        reason = " ".join(str(error).split()).rstrip(".")
        reason = "it is neither .npy nor .npz, or holds Python objects" if "pickle" in reason else reason
        raise ValueError(f"{path} cannot be read as {what}: {reason or type(error).__name__}.") from error
