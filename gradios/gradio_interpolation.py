"""A page that samples the frames between a first and a last one.

python gradios/gradio_interpolation.py
python gradios/gradio_interpolation.py --model_dir … --adapter …
"""

from functools import partial

import gradio as gr

from gradios.between_sampling import MAX_TOTAL, Asked, Weights, make
from gradios.examples import first_frame
from gradios.form import Form
from gradios.script import PageScript
from gradios.uploads import image_file
from gradios.videos import add_base_box, add_between_box, add_video_settings, frames_sheet, player
from models.unet_spatio_temporal_condition import check_masked_unet
from utils.arguments import run_script

LEAD = (
    "Give a first and a last frame and sample the video between them, through a third one in the middle if you like. "
    "A loop returns to the first frame, so that the video can be repeated."
)


def add_inputs(own: Weights) -> dict:
    """Components of what is asked for, by the names of the API."""
    with gr.Row():
        first, last = image_file("First frame", min_width=140), image_file("Last frame", min_width=140)
    with gr.Accordion("A frame in the middle, a loop", open=False):
        middle = image_file("Frame in the middle (optional)")
        loop = gr.Checkbox(False, label="Return to the first frame")
        total = gr.Slider(0, MAX_TOTAL, 0, step=1, label="Frames of the whole video", info="0: the model's own number")
    with gr.Accordion("More settings", open=False):
        settings = add_video_settings()
        weights = {"base": add_base_box(own.base), "adapter": add_between_box(own.adapter)}
    frames = {"first": first, "middle": middle, "last": last}
    return frames | {"loop": loop, "total_frames": total} | settings | weights


def add_results() -> list:
    """Components of what `sample` gives, in its order."""
    return [player("Video", height=420), frames_sheet("All frames")]


def two_frames(number: int, loop: bool = False) -> dict:
    """Values of inputs of an example, by name."""
    return {"first": first_frame(number), "last": first_frame(number, 7), "loop": loop}


EXAMPLES = {
    "Between two frames": partial(two_frames, 0),
    "Another two": partial(two_frames, 7),
    "There and back": partial(two_frames, 4, loop=True),
}


def check(own: Weights) -> None:
    if own.adapter:
        check_masked_unet(own.adapter)


FORM = Form(
    "interpolation",
    "A video from a first to a last frame. "
    "Returns the video, an image of all frames, an archive and what the page says.",
    "Sample the frames between",
    add_inputs,
    add_results,
    Asked.read,
    make,
    EXAMPLES,
    {"first": "The first frame", "middle": "The frame in the middle", "last": "The last frame"},
)
PAGE = PageScript(__doc__, "Frames between two", LEAD, FORM.build, Weights, check)
page, parser, main = PAGE.page, PAGE.parser, PAGE.main


if __name__ == "__main__":
    run_script(main)
