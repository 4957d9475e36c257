"""A page that samples the frames between a first and a last one.

python gradios/gradio_interpolation.py
python gradios/gradio_interpolation.py --model_dir … --adapter …
"""

from pathlib import Path

import gradio as gr

from gradios.between_sampling import MAX_TOTAL, Asked, Weights, make
from gradios.controls import two_columns, weights_box
from gradios.desk import Desk, Made
from gradios.examples import first_frame
from gradios.running import Reporter
from gradios.script import PageScript
from gradios.uploads import image_file
from gradios.videos import EXAMPLE_SETTINGS, add_base_box, add_video_settings, player
from models.unet_spatio_temporal_condition import check_masked_unet
from utils.arguments import run_script

LEAD = (
    "Give a first and a last frame and sample the video between them, through a third one in the middle if you like. "
    "A loop returns to the first frame, so that the video can be repeated."
)
EXAMPLES = {"Between two frames": (0, False), "Another two": (7, False), "There and back": (4, True)}


def build(desk: Desk, own: Weights) -> None:
    """The components of the page, in the open `gr.Blocks`."""

    def parts() -> list:
        return [*add_inputs(), *add_settings(own)]

    named = example, EXAMPLES
    two_columns(desk, "interpolation", "Sample the frames between", parts, add_results, sample(desk, own), *named)


def add_inputs() -> list:
    """Components of what is asked for."""
    with gr.Row():
        first, last = image_file("First frame", min_width=140), image_file("Last frame", min_width=140)
    with gr.Accordion("A frame in the middle, a loop", open=False):
        middle = image_file("Frame in the middle (optional)")
        loop = gr.Checkbox(False, label="Return to the first frame")
        total = gr.Slider(0, MAX_TOTAL, 0, step=1, label="Frames of the whole video", info="0: the model's own number")
    return [first, middle, last, loop, total]


def add_settings(own: Weights) -> list:
    """Components of what is folded away."""
    adapter = own.adapter or "that of the project, or training-free"
    with gr.Accordion("More settings", open=False):
        return [*add_video_settings(), add_base_box(own.base), weights_box("Adapter of frames between two", adapter)]


def add_results() -> list:
    """Components of what `sample` gives, in its order."""
    video = player("Video", height=420)
    return [video, gr.Image(label="All frames", interactive=False, buttons=["fullscreen"], elem_classes="duet-pixels")]


def sample(desk: Desk, own: Weights):
    """The generator that the page and clients call."""

    def sample_between(
        first,
        middle,
        last,
        loop,
        total_frames,
        num_inference_steps,
        max_guidance_scale,
        motion_bucket_id,
        fps,
        num_frames,
        seed,
        base,
        adapter,
        request: gr.Request,
    ):
        """A video from a first to a last frame. Returns the video, an image of all frames, an archive and what the
        page says."""
        settings = num_inference_steps, max_guidance_scale, motion_bucket_id, fps, num_frames, seed
        sent = (first, "The first frame"), (middle, "The frame in the middle"), (last, "The last frame")

        def work(folder: Path, report: Reporter) -> Made:
            weights = Weights(desk.weights(own.base, base), desk.weights(own.adapter, adapter))
            asked = Asked.read(first, middle, last, loop, total_frames, *settings)
            return make(desk, weights, asked, folder, report)

        yield from desk.sample(request, 3, work, {path: name for path, name in sent if path})

    return sample_between


def example(name: str) -> list:
    """Values of the inputs of an example."""
    number, loop = EXAMPLES[name]
    frames = first_frame(number), None, first_frame(number, 7)
    return [*frames, loop, 0, *EXAMPLE_SETTINGS, "", ""]


def check(own: Weights) -> None:
    if own.adapter:
        check_masked_unet(own.adapter)


PAGE = PageScript(__doc__, "Frames between two", LEAD, build, Weights, check)
page, parser, main = PAGE.page, PAGE.parser, PAGE.main


if __name__ == "__main__":
    run_script(main)
