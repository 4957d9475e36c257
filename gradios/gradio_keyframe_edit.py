"""A page that edits videos by a prompt: keyframes together, and then the frames between them.

python gradios/gradio_keyframe_edit.py
python gradios/gradio_keyframe_edit.py --image_model … --model_dir … --depth_adapter …
"""

import gradio as gr

from gradios.controls import weights_box
from gradios.edit_sampling import MAX_EDIT_STEPS, MAX_INTERVAL, Asked, Weights, make
from gradios.examples import clip_video
from gradios.form import Form
from gradios.script import PageScript
from gradios.uploads import video_file
from gradios.videos import add_base_box, add_between_box, add_video_settings, frames_sheet, player
from pipelines.pipeline_keyframe_edit import STRUCTURES
from utils.arguments import run_script

LEAD = (
    "Say what a short video shows and what it is to show instead. A few keyframes are edited together by the image "
    "model, and the frames between them are filled in by the video model."
)


def add_inputs(own: Weights) -> dict:
    """Components of what is asked for, by the names of the API."""
    video = video_file("Video", height=220)
    source = gr.Textbox("", label="What the video shows", placeholder="a large blue cone on a brown floor, gray wall")
    prompt = gr.Textbox("", label="What it is to show", placeholder="a large cyan cone on a brown floor, gray wall")
    mask = gr.Checkbox(True, label="Edit only where the two differ")
    what = {"video": video, "source_prompt": source, "prompt": prompt, "find_mask": mask}
    with gr.Accordion("More settings", open=False):
        return what | add_keyframe_settings() | add_video_settings(own_rate=True) | add_weights(own)


def add_keyframe_settings() -> dict:
    """How keyframes are edited."""
    interval = gr.Slider(1, MAX_INTERVAL, 7, step=1, label="Frames from one keyframe to the next")
    structure = gr.Dropdown(list(STRUCTURES), value="depth+inversion", label="What keeps the structure")
    with gr.Row():
        steps = gr.Slider(1, MAX_EDIT_STEPS, 20, step=1, label="Steps of keyframes", min_width=140)
        scale = gr.Slider(0, 20, 5, step=0.5, label="Guidance scale of keyframes", min_width=140)
    return {
        "keyframe_interval": interval,
        "structure": structure,
        "edit_steps": steps,
        "edit_guidance_scale": scale,
    }


def add_weights(own: Weights) -> dict:
    """Which weights."""
    return {
        "image_model": weights_box("Stable Diffusion base", own.image_model),
        "base": add_base_box(own.base),
        "depth_adapter": weights_box("Joint adapter of depth", own.depth_adapter or "that of the project"),
        "adapter": add_between_box(own.adapter),
    }


def add_results() -> list:
    """Components of what `sample` gives, in its order."""
    with gr.Row():
        source, video = player("Before", height=320, min_width=200), player("After", height=320, min_width=200)
    return [source, video, frames_sheet("Frames before and after")]


EXAMPLES = {
    "A cone in cyan": lambda: {
        "video": clip_video(500_009),
        "source_prompt": "a large blue cone on a brown floor, gray wall",
        "prompt": "a large cyan cone on a brown floor, gray wall",
    },
}
FORM = Form(
    "keyframe_edit",
    "A video edited by a prompt. "
    "Returns the source, the result, an image of frames of both, an archive and what the page says.",
    "Edit the video",
    add_inputs,
    add_results,
    Asked.read,
    make,
    EXAMPLES,
    {"video": "The video"},
)
PAGE = PageScript(__doc__, "Video edit", LEAD, FORM.build, Weights)
page, parser, main = PAGE.page, PAGE.parser, PAGE.main


if __name__ == "__main__":
    run_script(main)
