"""A run that is asked to end, by Ctrl-C or SIGTERM, finishes its step and keeps it."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator

import torch
from accelerate import Accelerator

SIGNALS = (signal.SIGINT, signal.SIGTERM)
TOGETHER = 1.0  # seconds in which signals count as one: a launcher passes on what its processes got from the terminal


class Stop:
    """Whether a signal has asked this process to end; a second one ends it at once."""

    def __init__(self):
        self.asked_at: float | None = None

    def handle(self, signum: int, frame) -> None:
        """The handler of the signals."""
        if self.asked_at is None:
            self.asked_at = time.monotonic()
            os.write(
                2, b"\nStopping after this step; a second signal ends the run at once.\n"
            )  # print is not reentrant
        elif time.monotonic() - self.asked_at > TOGETHER:
            raise SystemExit(128 + signum)

    def agreed(self, accelerator: Accelerator) -> bool:
        """Whether any process was asked; all of them have to call this after the same step."""
        asked = self.asked_at is not None
        if accelerator.num_processes == 1:
            return asked
        return accelerator.reduce(torch.tensor(float(asked), device=accelerator.device), "sum").item() > 0


@contextlib.contextmanager
def listening() -> Iterator[Stop]:
    """Within: signals ask for the end. In another thread than the main one, which gets them, nothing changes."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop.handle) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave_signals(worker: int) -> None:
    """For data workers, which get the signals of a terminal as well: they end with their training."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
