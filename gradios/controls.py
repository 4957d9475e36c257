"""Groups of components that several pages have."""

from dataclasses import dataclass

import gradio as gr

from gradios import status
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


def add_actions(verb: str, name: str) -> Actions:
    """What starts and stops a sampling; `name` is the id of the button that starts it."""
    with gr.Row():
        run = gr.Button(verb, variant="primary", scale=3, elem_id=name)
        stop = gr.Button("Stop", scale=1, min_width=80)
    shown = gr.HTML(status.IDLE)
    download = gr.DownloadButton("Download everything with its settings", interactive=False)
    return Actions(run, stop, shown, download)
