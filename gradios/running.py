"""A sampling in a thread of its own, followed step by step and stopped between two steps or before its turn."""

import queue
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from PIL import Image

Result = TypeVar("Result")
PREVIEW_SECONDS = 0.7  # between previews: one costs a decoding
WAIT_SECONDS = 1.0  # after which a sampling in line looks up


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


def follow(
    work: Callable[[Reporter], Result], stop: threading.Event, ended: threading.Event | None = None
) -> Iterator[Step | Done]:
    """The steps of a work and then its result; what the work raises is raised here.

    A generator that is closed stops the work at its next step; until then the work goes on.

    ended: Set as long as the work does not run.
    """
    reporter, ended = Reporter(stop), ended or threading.Event()

    def run() -> None:
        try:
            reporter.steps.put(Done(work(reporter)))
        except BaseException as error:  # noqa: BLE001 - it is raised where the steps are read
            reporter.steps.put(error)
        finally:
            ended.set()

    ended.clear()
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


class Line:
    """The samplings of all visitors in the order in which they came: the first goes on, the others wait."""

    def __init__(self):
        self._moved = threading.Condition()
        self._expected: dict[Hashable, threading.Event] = {}
        self._visitors: dict[threading.Event, Hashable] = {}

    def expect(self, visitor: Hashable) -> None:
        """A sampling of this visitor is about to join; a stop before it has joined holds for it, too."""
        with self._moved:
            self._expected[visitor] = threading.Event()

    def join(self, visitor: Hashable) -> threading.Event:
        """What stops a new sampling of this visitor, the last in line."""
        with self._moved:
            event = self._expected.pop(visitor, None) or threading.Event()
            self._visitors[event] = visitor
        return event

    def wait(self, event: threading.Event) -> Iterator[None]:
        """Ends when it is a sampling's turn; yields now and then before, so that it can be closed.

        Raises:
            StoppedError: The sampling is stopped before its turn.
        """
        while True:
            with self._moved:
                self._moved.wait_for(lambda: event.is_set() or self._is_first(event), WAIT_SECONDS)
                if event.is_set():
                    raise StoppedError
                if self._is_first(event):
                    return
            yield

    def _is_first(self, event: threading.Event) -> bool:
        return next(iter(self._visitors)) is event

    def stop(self, visitor: Hashable) -> None:
        """Stop all samplings of this visitor; others go on."""
        with self._moved:
            events = [event for event, other in self._visitors.items() if other == visitor]
            if visitor in self._expected:
                events.append(self._expected[visitor])
            for event in events:
                event.set()
            self._moved.notify_all()

    def leave(self, event: threading.Event) -> None:
        """Forget a sampling that has ended."""
        with self._moved:
            self._visitors.pop(event, None)
            self._moved.notify_all()
