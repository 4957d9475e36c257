"""Lines on stderr that say what a command assumes."""

import multiprocessing
import os
import sys

_said: set[str] = set()


def notice(sentence: str, about: str | None = None) -> None:
    """Print a sentence to stderr, once for each `about` in a run of any number of processes (default: the sentence)."""
    about = about or sentence
    if about in _said or os.environ.get("LOCAL_RANK", "0") != "0" or multiprocessing.parent_process() is not None:
        return
    _said.add(about)
    print(sentence, file=sys.stderr)
