"""The part of a page that estimates the depth of a short video, frame by frame."""

import gradio as gr

from gradios.clip_sampling import MAX_CLIP, Asked, make
from gradios.controls import hint, weights_box
from gradios.examples import clip_video
from gradios.form import Form
from gradios.pair_sampling import Weights
from gradios.uploads import video_file
from gradios.videos import frames_sheet, player

STEADY = (
    "The depth of each frame is estimated by one call of the network, without noise, and brought to that of the frame "
    "before where the video stands still."
)


def add_inputs(own: Weights) -> dict:
    """Components of what is asked for, by the names of the API."""
    hint(STEADY)
    video = video_file(f"Video, of at most {MAX_CLIP} frames", height=240)
    with gr.Accordion("More settings", open=False):
        base = weights_box("Stable Diffusion base", own.base)
        estimator = weights_box("Adapter that estimates depth", own.estimator)
    return {"video": video, "base": base, "estimator": estimator}


def add_results() -> list:
    """Components of what `make` gives, in its order."""
    return [player("Video beside its depth", height=340), frames_sheet("Frames beside their depth")]


FORM = Form(
    "depth_video",
    "The depth of a short video, frame by frame. "
    "Returns the video beside its depth, an image of all frames, an archive and what the page says.",
    "Estimate the depth",
    add_inputs,
    add_results,
    Asked,
    make,
    {"Depth of a clip": lambda: {"video": clip_video(7)}, "Another clip": lambda: {"video": clip_video(0)}},
    {"video": "The video"},
)
