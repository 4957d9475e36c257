"""Errors of the disk while something is written, in one sentence."""

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Within: a full disk or the like becomes an OSError that names `path`, whichever library meets it."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if (reason := _reason(error)) is None:
            raise
        raise OSError(
            f"{path} cannot be written: {reason}; make room and go on with --resume_from_checkpoint latest."
        ) from error


def _reason(error: Exception) -> str | None:
    """What the disk said; None where the error is another."""
    if isinstance(error, SafetensorError):
        number = re.search(r"\(os error (\d+)\)", str(error))
        return os.strerror(int(number[1])) if number else None
    if isinstance(error, OSError):
        return os.strerror(error.errno) if error.errno in OF_THE_DISK else None
    return "the disk refused, which may be full" if "inline_container" in str(error) else None  # torch.save
