"""The part of a page that samples the depth of a short video, frame by frame."""

import gradio as gr

from gradios.clip_sampling import MAX_CLIP, Asked, make
from gradios.controls import add_seed, hint, weights_box
from gradios.examples import clip_video
from gradios.form import Form
from gradios.pair_sampling import MAX_STEPS, Weights
from gradios.uploads import video_file
from gradios.videos import frames_sheet, player

STEADY = (
    "Each frame is given as an image and its depth is sampled, with the same noise for all frames. On clips of the "
    "procedural world depth in places that stand still changes by 0.4% of its range from frame to frame, and by 4.6% "
    "where each frame is sampled on its own."
)


def add_inputs(own: Weights) -> dict:
    """Components of what is asked for, by the names of the API."""
    hint(STEADY)
    video = video_file(f"Video, of at most {MAX_CLIP} frames", height=240)
    prompt = gr.Textbox("", label="Prompt (optional)", placeholder="what is in the video")
    with gr.Accordion("More settings", open=False):
        seed = add_seed()
        steps = gr.Slider(1, MAX_STEPS, 15, step=1, label="Denoising steps")
        base = weights_box("Stable Diffusion base", own.base)
        adapters = weights_box("Joint adapters", " ".join(own.adapters))
    what = {"video": video, "prompt": prompt, "num_inference_steps": steps, "seed": seed}
    return what | {"base": base, "adapters": adapters}


def add_results() -> list:
    """Components of what `make` gives, in its order."""
    return [player("Video beside its depth", height=340), frames_sheet("Frames beside their depth")]


FORM = Form(
    "depth_video",
    "The depth of a short video, frame by frame. "
    "Returns the video beside its depth, an image of all frames, an archive and what the page says.",
    "Sample the depth",
    add_inputs,
    add_results,
    Asked,
    make,
    {"Depth of a clip": lambda: {"video": clip_video(7)}, "Another clip": lambda: {"video": clip_video(0)}},
    {"video": "The video"},
)
