"""Groups of components that several pages have."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import gradio as gr

from gradios import status
from gradios.desk import QUEUE, Desk
from gradios.messages import hide_paths
from gradios.uploads import MAX_SEED

WEIGHTS = "duet-weights"  # class of the boxes in which weights are named
PRIVATE = {"api_visibility": "private", "show_progress": "hidden"}  # of events that no client calls


@dataclass(frozen=True)
class Actions:
    """The buttons of a page, its status and its download."""

    run: gr.Button
    stop: gr.Button
    status: gr.HTML
    download: gr.DownloadButton


def hint(text: str) -> gr.HTML:
    """A line of explanation."""
    return gr.HTML(f'<p class="duet-hint">{text}</p>')


def weights_box(title: str, own: str) -> gr.Textbox:
    """Where a visitor names other weights; it shows the name of the server's own, without its folder."""
    shown = " ".join(hide_paths(name) for name in own.split())
    said = f"Folder or hub name (default: {shown})."
    return gr.Textbox("", label=title, placeholder=shown, info=said, elem_classes=WEIGHTS)


def add_seed() -> gr.Number:
    """A number that repeats a result, and a button for another one."""
    with gr.Row(equal_height=True):
        seed = gr.Number(
            0, label="Seed", info="The same seed repeats the result.", precision=0, minimum=0, maximum=MAX_SEED
        )
        other = gr.Button("New seed", size="sm", min_width=96, scale=0)
    other.click(None, outputs=seed, js=f"() => Math.floor(Math.random() * {2**31})", **PRIVATE)
    return seed


def add_actions(verb: str) -> Actions:
    """What starts and stops a sampling."""
    with gr.Row():
        run = gr.Button(verb, variant="primary", scale=3)
        stop = gr.Button("Stop", scale=1, min_width=80)
    shown = gr.HTML(status.IDLE)
    download = gr.DownloadButton("Download everything with its settings", interactive=False)
    return Actions(run, stop, shown, download)


def two_columns(
    desk: Desk,
    api_name: str,
    verb: str,
    add_inputs: Callable[[], list],
    add_results: Callable[[], list],
    sample: Callable,
    example: Callable[[str], list],
    names: Iterable[str],
    submit: int | None = None,
) -> None:
    """The components of a page in the open `gr.Blocks`: what is asked for on one side, what came of it on the other.

    Args:
        verb: On the button.
        example: From a name of an example to values of the inputs.
        names: Of the examples.
        submit: Number of a text among the inputs whose Enter key samples, too.
    """
    with gr.Row():
        with gr.Column(scale=5, min_width=300):
            inputs = add_inputs()
            actions = add_actions(verb)
            examples = add_examples(example, names)
        with gr.Column(scale=6, min_width=300):
            results = add_results()
    triggers = [] if submit is None else [inputs[submit].submit]
    connect(desk, actions, api_name, sample, inputs, results, examples, triggers)


def add_examples(example: Callable[[str], list], names: Iterable[str]) -> list[tuple[gr.Button, Callable]]:
    """A button for each example, with what gives its values."""
    hint("Try one:")
    with gr.Row(elem_classes="duet-chips"):
        return [(gr.Button(name, size="sm"), partial(example, name)) for name in names]


def connect(
    desk: Desk,
    actions: Actions,
    api_name: str,
    sample: Callable,
    inputs: Sequence,
    results: Sequence,
    examples: Sequence[tuple[gr.Button, Callable]] = (),
    triggers: Sequence = (),
) -> None:
    """Let the buttons sample.

    Args:
        api_name: By which clients call it.
        sample: Generator of values of `results`, the download and the status, by those of `inputs`.
        examples: Buttons, and what gives the values of `inputs` that they try.
        triggers: Further events that start a sampling.
    """
    for part in inputs:
        if WEIGHTS in (part.elem_classes or []):
            part.visible = desk.choose_weights
    outputs = [*results, actions.download, actions.status]
    options = {"inputs": list(inputs), "outputs": outputs, "show_progress": "hidden"} | QUEUE
    waiting = gr.on(
        [actions.run.click, *triggers], lambda: status.WAITING, outputs=actions.status, queue=False, **PRIVATE
    )
    runs = [waiting.then(sample, api_name=api_name, **options)]
    for button, values in examples:
        filled = button.click(
            lambda values=values: [*values(), status.WAITING],
            outputs=[*inputs, actions.status],
            queue=False,
            **PRIVATE,
        )
        runs.append(filled.then(sample, api_visibility="private", **options))
    for run in runs:
        run.success(lambda: gr.DownloadButton(interactive=True), outputs=actions.download, queue=False, **PRIVATE)
    actions.stop.click(
        desk.stop,
        outputs=actions.status,
        cancels=runs,
        queue=False,
        api_name=f"stop_{api_name}",
        show_progress="hidden",
    )
