"""The one model that a process holds. Visitors share it, one after the other, and nothing else."""

import gc
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager


class Slot:
    """Holds what was loaded last; another model takes its place, so that there is never room for two needed."""

    def __init__(self):
        self._lock = threading.Lock()
        self._key = None
        self._model = None

    @contextmanager
    def using(self, load: Callable, *arguments: Hashable) -> Iterator:
        """The model `load(*arguments)`, the one that is held or a new one, for this thread alone."""
        key = (load, arguments)
        with self._lock:
            if self._key != key:
                self._key = self._model = None
                gc.collect()
                self._model = load(*arguments)
                self._key = key
            yield self._model
