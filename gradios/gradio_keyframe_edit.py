"""A page that edits videos by a prompt: keyframes together, and then the frames between them.

python gradios/gradio_keyframe_edit.py
python gradios/gradio_keyframe_edit.py --image_model … --model_dir … --depth_adapter …
"""

from pathlib import Path

import gradio as gr

from gradios.controls import two_columns, weights_box
from gradios.desk import Desk, Made
from gradios.edit_sampling import MAX_EDIT_STEPS, MAX_INTERVAL, Asked, Weights, make
from gradios.examples import clip_video
from gradios.running import Reporter
from gradios.script import PageScript
from gradios.uploads import video_file
from gradios.videos import EXAMPLE_SETTINGS, NAMES, add_base_box, add_video_settings, player
from pipelines.pipeline_keyframe_edit import STRUCTURES
from utils.arguments import run_script

LEAD = (
    "Say what a short video shows and what it is to show instead. A few keyframes are edited together by the image "
    "model, and the frames between them are filled in by the video model."
)
EXAMPLES = {  # number of the clip, what it shows, what it becomes
    "A cone in cyan": (
        500_009,
        "a large blue cone on a brown floor, gray wall",
        "a large cyan cone on a brown floor, gray wall",
    ),
}


def build(desk: Desk, own: Weights) -> None:
    """The components of the page, in the open `gr.Blocks`."""

    def parts() -> list:
        return [*add_inputs(), *add_settings(own)]

    two_columns(desk, "keyframe_edit", "Edit the video", parts, add_results, sample(desk, own), example, EXAMPLES)


def add_inputs() -> list:
    """Components of what is asked for."""
    video = video_file("Video", height=220)
    source = gr.Textbox("", label="What the video shows", placeholder="a large blue cone on a brown floor, gray wall")
    prompt = gr.Textbox("", label="What it is to show", placeholder="a large cyan cone on a brown floor, gray wall")
    mask = gr.Checkbox(True, label="Edit only where the two differ")
    return [video, source, prompt, mask]


def add_settings(own: Weights) -> list:
    """Components of what is folded away."""
    with gr.Accordion("More settings", open=False):
        interval = gr.Slider(1, MAX_INTERVAL, 7, step=1, label="Frames from one keyframe to the next")
        structure = gr.Dropdown(list(STRUCTURES), value="depth+inversion", label="What keeps the structure")
        with gr.Row():
            steps = gr.Slider(1, MAX_EDIT_STEPS, 20, step=1, label="Steps of keyframes", min_width=140)
            scale = gr.Slider(0, 20, 5, step=0.5, label="Guidance scale of keyframes", min_width=140)
        settings = add_video_settings()
        settings[NAMES.index("fps")].visible = False  # the rate is that of the video
        image_model = weights_box("Stable Diffusion base", own.image_model)
        base = add_base_box(own.base)
        depth = weights_box("Joint adapter of depth", own.depth_adapter or "that of the project")
        adapter = weights_box("Adapter of frames between two", own.adapter or "that of the project, or training-free")
    return [interval, structure, steps, scale, *settings, image_model, base, depth, adapter]


def add_results() -> list:
    """Components of what `sample` gives, in its order."""
    with gr.Row():
        source, video = player("Before", height=320, min_width=200), player("After", height=320, min_width=200)
    sheet = gr.Image(
        label="Frames before and after", interactive=False, buttons=["fullscreen"], elem_classes="duet-pixels"
    )
    return [source, video, sheet]


def sample(desk: Desk, own: Weights):
    """The generator that the page and clients call."""

    def edit_video(
        video,
        source_prompt,
        prompt,
        find_mask,
        keyframe_interval,
        structure,
        edit_steps,
        edit_guidance_scale,
        num_inference_steps,
        max_guidance_scale,
        motion_bucket_id,
        fps,
        num_frames,
        seed,
        image_model,
        base,
        depth_adapter,
        adapter,
        request: gr.Request,
    ):
        """A video edited by a prompt. Returns the source, the result, an image of frames of both, an archive and what
        the page says."""
        what = video, source_prompt, prompt, find_mask
        how = keyframe_interval, structure, edit_steps, edit_guidance_scale
        settings = num_inference_steps, max_guidance_scale, motion_bucket_id, fps, num_frames, seed

        def work(folder: Path, report: Reporter) -> Made:
            chosen = zip(
                (own.image_model, own.base, own.depth_adapter, own.adapter),
                (image_model, base, depth_adapter, adapter),
                strict=True,
            )
            weights = Weights(*(desk.weights(*pair) for pair in chosen))
            return make(desk, weights, Asked.read(*what, *how, *settings), folder, report)

        yield from desk.sample(request, 4, work, {video: "The video"} if video else {})

    return edit_video


def example(name: str) -> list:
    """Values of the inputs of an example."""
    number, source, prompt = EXAMPLES[name]
    what = clip_video(number), source, prompt, True, 7, "depth+inversion", 20, 5
    return [*what, *EXAMPLE_SETTINGS, "", "", "", ""]


PAGE = PageScript(__doc__, "Video edit", LEAD, build, Weights)
page, parser, main = PAGE.page, PAGE.parser, PAGE.main


if __name__ == "__main__":
    run_script(main)
