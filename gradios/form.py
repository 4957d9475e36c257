"""What a page asks for and what it shows, told once: the layout, the buttons and the API are made of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from inspect import Parameter, Signature
from pathlib import Path

import gradio as gr

from gradios import status
from gradios.controls import PRIVATE, WEIGHTS, Actions, add_actions, hint
from gradios.desk import QUEUE, Desk, Made
from gradios.running import Reporter


@dataclass(frozen=True)
class Form:
    """
    Attributes:
        api_name: By which clients call it.
        description: What the API says of it.
        verb: On the button that samples.
        add_inputs: From weights to the components of what is asked for, by the names of the API. Those that have the
            name of a field of the weights ask for other weights.
        add_results: The components of what comes of it.
        read: From values of the inputs, by their names, to what `make` takes; raises ValueError or OSError.
        make: Samples, from the desk, weights, what `read` returns, a folder and a reporter.
        examples: By what a button says, a function that returns values of inputs; the others are as the page opens.
        files: What the page calls files that are sent, by the names of their inputs.
        submit: Name of a text among the inputs in which Enter samples, too (Shift+Enter where it has several lines).
    """

    api_name: str
    description: str
    verb: str
    add_inputs: Callable[..., dict]
    add_results: Callable[[], list]
    read: Callable
    make: Callable[..., Made]
    examples: Mapping[str, Callable[[], dict]]
    files: Mapping[str, str] = field(default_factory=dict)
    submit: str = ""

    def build(self, desk: Desk, own) -> None:
        """Puts the components into the open `gr.Blocks`: what is asked for on one side, what came of it on the other.

        Args:
            own: Weights of the server.
        """
        with gr.Row():
            with gr.Column(scale=5, min_width=300):
                inputs = self.add_inputs(own)
                actions = self.add_actions()
                chips = self.add_examples()
            with gr.Column(scale=6, min_width=300):
                results = self.add_results()
        self.connect(desk, own, actions, inputs, results, chips)

    def add_actions(self) -> Actions:
        """What starts and stops a sampling."""
        return add_actions(self.verb, f"sample-{self.api_name}")

    def add_examples(self) -> list[gr.Button]:
        """A button for each example."""
        hint("Try one:")
        with gr.Row(elem_classes="duet-chips"):
            return [gr.Button(name, size="sm") for name in self.examples]

    def connect(self, desk: Desk, own, actions: Actions, inputs: dict, results: list, chips: list[gr.Button]) -> None:
        """Lets the buttons sample."""
        for part in inputs.values():
            if WEIGHTS in (part.elem_classes or []):
                part.visible = desk.choose_weights
        parts, outputs = list(inputs.values()), [*results, actions.download, actions.status]
        options = {"inputs": parts, "outputs": outputs, "show_progress": "hidden"} | QUEUE
        sample = self.sampler(desk, own, tuple(inputs), len(outputs) - 1)
        buttons = [actions.run, *chips]

        def begin(request: gr.Request) -> list:
            desk.line.expect(self.visitor(request))
            return [status.WAITING, *usable(buttons, False)]

        def stop(request: gr.Request) -> str:
            """End the samplings of one visitor; returns what the page says."""
            desk.line.stop(self.visitor(request))
            return status.STOPPED

        beginning = {"outputs": [actions.status, *buttons], "queue": False} | PRIVATE
        waiting = actions.run.click(begin, **beginning)
        runs = [waiting.then(sample, api_name=self.api_name, api_description=self.description, **options)]
        for chip, values in zip(chips, self.examples.values(), strict=True):
            waiting = chip.click(begin, **beginning)
            filled = waiting.then(partial(fill, inputs, values), outputs=parts, queue=False, **PRIVATE)
            filled.failure(lambda: usable(buttons, True), outputs=buttons, queue=False, **PRIVATE)
            runs.append(filled.then(sample, api_visibility="private", **options))
        for run in runs:
            run.success(lambda: gr.DownloadButton(interactive=True), outputs=actions.download, queue=False, **PRIVATE)
            for ended in (run.then, run.failure):  # after a failure there is no `then`
                ended(lambda: usable(buttons, True), outputs=buttons, queue=False, **PRIVATE)
        if self.submit:
            inputs[self.submit].submit(
                None, js=f"() => document.getElementById('{actions.run.elem_id}').click()", **PRIVATE
            )
        # Without `cancels`: a cancel that arrives after the sampling has ended would end the next one.
        actions.stop.click(
            stop,
            outputs=actions.status,
            queue=False,
            api_name=f"stop_{self.api_name}",
            show_progress="hidden",
        )

    def visitor(self, request: gr.Request) -> tuple[str | None, str]:
        """Whose samplings a stop ends: those that one visitor has begun with this form."""
        return request.session_hash, self.api_name

    def sampler(self, desk: Desk, own, names: tuple[str, ...], number: int) -> Callable:
        """The generator that the page and clients call; its parameters are the names of the inputs.

        Args:
            number: Of the components that it fills, without the status.
        """
        chosen = [one.name for one in fields(own) if one.name in names]

        def sample(request: gr.Request, *values):
            asked = dict(zip(names, values, strict=True))
            sent = {asked[name]: text for name, text in self.files.items() if asked[name]}

            def work(folder: Path, report: Reporter) -> Made:
                weights = replace(own, **{name: desk.weights(getattr(own, name), asked[name]) for name in chosen})
                what = self.read(**{name: value for name, value in asked.items() if name not in chosen})
                return self.make(desk, weights, what, folder, report)

            yield from desk.sample(self.visitor(request), number, work, sent)

        sample.__signature__ = Signature(
            [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in ("request", *names)]
        )
        return sample


def fill(inputs: dict, values: Callable[[], dict]) -> list:
    """Values of all inputs by those of an example."""
    return list(({name: part.value for name, part in inputs.items()} | values()).values())


def usable(buttons: list[gr.Button], now: bool) -> list[dict]:
    """Buttons that take clicks, or do not while a sampling goes on.

    The browser passes over what begins a sampling until the one before has ended there, a moment after a stop is shown.
    """
    return [gr.update(interactive=now)] * len(buttons)
