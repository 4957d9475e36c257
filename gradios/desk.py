"""What the pages of a process share: the model, the line before it, the place of the files; how a page samples."""

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import gradio as gr

from gradios import status
from gradios.messages import one_sentence
from gradios.running import Done, Line, Reporter, Step, StoppedError, follow
from gradios.slot import Slot

PLACES = 24  # of samplings in `Line`, each with one of Gradio's 40 threads; one goes on
QUEUE = {"concurrency_id": "model", "concurrency_limit": PLACES}  # of all events that sample


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
    line: Line = field(default_factory=Line)

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

    def sample(
        self,
        visitor: Hashable,
        number: int,
        work: Callable[[Path, Reporter], Made],
        names: Mapping[str, str] | None = None,
    ) -> Iterator[tuple]:
        """Values of `number` components and the HTML of the status, step by step.

        Args:
            visitor: By whom `line` knows it.
            work: Samples, with a folder for its files that is removed afterwards.
            names: What uploaded files are called, by their paths.

        Raises:
            gr.Error: With one sentence, which the status has too.
        """
        kept, folder, stop = (gr.skip(),) * number, Path(tempfile.mkdtemp(prefix="duet-")), self.line.join(visitor)
        ended = threading.Event()
        ended.set()
        try:
            with one_sentence({**(names or {}), str(folder): "the run"}):
                for _ in self.line.wait(stop):
                    yield (*kept, gr.skip())
                started = time.monotonic()
                for item in follow(lambda report: work(folder, report), stop, ended):
                    yield self._show(item, kept, started)
        except StoppedError:
            yield (*kept, status.STOPPED)
        except gr.Error as error:
            yield (*kept, status.show_failure(error.message))
            raise
        finally:
            self._leave(stop, folder, ended)

    def _leave(self, stop: threading.Event, folder: Path, ended: threading.Event) -> None:
        """Removes the folder and lets the next one sample, when the work has ended: after a closed tab it goes on."""

        def leave() -> None:
            ended.wait()
            shutil.rmtree(folder, ignore_errors=True)
            self.line.leave(stop)

        if ended.is_set():
            leave()
        else:
            threading.Thread(target=leave, daemon=True).start()

    def _show(self, item: Step | Done, kept: tuple, started: float) -> tuple:
        if isinstance(item, Step):
            return (*kept, status.show_step(item))
        made = item.result
        sentence = f"{made.sentence} in {time.monotonic() - started:.1f} s"
        return (*made.values, status.show_result(sentence, made.notes))
