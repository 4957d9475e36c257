"""What the pages of a process share: the model, the queue, the place of the files; and how a page samples."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import gradio as gr

from gradios import status
from gradios.messages import one_sentence
from gradios.running import Done, Reporter, Step, StoppedError, Stops, follow
from gradios.slot import Slot

QUEUE = {"concurrency_id": "model", "concurrency_limit": 1}  # of all events that sample


@dataclass(frozen=True)
class Made:
    """
    Attributes:
        values: Of the components that show results, in their order.
        sentence: What the page says.
        notes: What there is to know besides.
    """

    values: tuple
    sentence: str
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Desk:
    """
    Attributes:
        device, dtype: Of the networks.
        choose_weights: Whether visitors may name weights, folders of this machine or names on the hub.
    """

    device: str | None = None
    dtype: str = "float32"
    choose_weights: bool = True
    slot: Slot = field(default_factory=Slot)
    stops: Stops = field(default_factory=Stops)

    def weights(self, own: str | tuple[str, ...], asked: str | None) -> str | tuple[str, ...]:
        """Weights that a visitor names, apart by spaces where there may be several, or the server's own.

        Raises:
            ValueError: Visitors may not name any.
        """
        asked = (asked or "").strip()
        if not asked:
            return own
        if not self.choose_weights:
            raise ValueError("This server takes no other weights from its pages: start it on 127.0.0.1 for that.")
        return tuple(asked.split()) if isinstance(own, tuple) else asked

    def stop(self, request: gr.Request) -> str:
        """End the sampling of one visitor; returns what the page says."""
        self.stops.stop(request.session_hash)
        return status.STOPPED

    def sample(
        self,
        request: gr.Request,
        number: int,
        work: Callable[[Path, Reporter], Made],
        names: Mapping[str, str] | None = None,
    ) -> Iterator[tuple]:
        """Values of `number` components and the HTML of the status, step by step.

        Args:
            work: Samples, with a folder for its files that is removed afterwards.
            names: What uploaded files are called, by their paths.

        Raises:
            gr.Error: With one sentence, which the status has too.
        """
        visitor, kept = request.session_hash, (gr.skip(),) * number
        stop, folder, started = self.stops.start(visitor), Path(tempfile.mkdtemp(prefix="duet-")), time.monotonic()
        try:
            with one_sentence({**(names or {}), str(folder): "the run"}):
                for item in follow(lambda report: work(folder, report), stop):
                    yield self._show(item, kept, started)
        except StoppedError:
            yield (*kept, status.STOPPED)
        except gr.Error as error:
            yield (*kept, status.show_failure(error.message))
            raise
        finally:
            self.stops.end(visitor, stop)
            shutil.rmtree(folder, ignore_errors=True)

    def _show(self, item: Step | Done, kept: tuple, started: float) -> tuple:
        if isinstance(item, Step):
            return (*kept, status.show_step(item))
        made = item.result
        sentence = f"{made.sentence} in {time.monotonic() - started:.1f} s"
        return (*made.values, status.show_result(sentence, made.notes))
