"""A sampling in a thread of its own, followed step by step and stopped between two steps."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from PIL import Image

Result = TypeVar("Result")
PREVIEW_SECONDS = 0.7  # between previews: one costs a decoding


class StoppedError(Exception):
    """The user has stopped the sampling."""


@dataclass(frozen=True)
class Step:
    """
    Attributes:
        phase: What is sampled.
        done, total: Steps of that phase.
        preview: What it looks like so far, or None.
    """

    phase: str
    done: int
    total: int
    preview: Image.Image | None = None


@dataclass(frozen=True)
class Done:
    """
    Attributes:
        result: What the work returned.
    """

    result: object


class Reporter:
    """What a work reports its steps to.

    Raises:
        StoppedError: In a report, once `stop` is set.
    """

    def __init__(self, stop: threading.Event):
        self.stop = stop
        self.steps: queue.SimpleQueue = queue.SimpleQueue()
        self._shown = -PREVIEW_SECONDS

    def __call__(
        self, phase: str, done: int, total: int, draw_preview: Callable[[], Image.Image] | None = None
    ) -> None:
        """Report a step; a preview is drawn where the last one is old enough and the step is not the last."""
        if self.stop.is_set():
            raise StoppedError
        preview, now = None, time.monotonic()
        if draw_preview is not None and done < total and now - self._shown >= PREVIEW_SECONDS:
            preview, self._shown = draw_preview(), now
        self.steps.put(Step(phase, done, total, preview))


def follow(work: Callable[[Reporter], Result], stop: threading.Event) -> Iterator[Step | Done]:
    """The steps of a work and then its result; what the work raises is raised here.

    A generator that is closed stops the work at its next step.
    """
    reporter = Reporter(stop)

    def run() -> None:
        try:
            reporter.steps.put(Done(work(reporter)))
        except BaseException as error:  # noqa: BLE001 - it is raised where the steps are read
            reporter.steps.put(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        while True:
            item = reporter.steps.get()
            if isinstance(item, BaseException):
                raise item
            yield item
            if isinstance(item, Done):
                return
    finally:
        stop.set()


class Stops:
    """What stops the samplings of each visitor."""

    def __init__(self):
        self._lock = threading.Lock()
        self._events: dict[str, threading.Event] = {}

    def start(self, visitor: str) -> threading.Event:
        """The event of a new sampling of this visitor."""
        event = threading.Event()
        with self._lock:
            self._events[visitor] = event
        return event

    def stop(self, visitor: str) -> None:
        """Stop the last sampling of this visitor, if there is one; others go on."""
        with self._lock:
            event = self._events.get(visitor)
        if event is not None:
            event.set()

    def end(self, visitor: str, event: threading.Event) -> None:
        """Forget a sampling that has ended."""
        with self._lock:
            if self._events.get(visitor) is event:
                del self._events[visitor]
