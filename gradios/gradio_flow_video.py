"""A page that samples videos with their optical flow, and each from the other.

python gradios/gradio_flow_video.py
python gradios/gradio_flow_video.py --model_dir … --adapter …
"""

from pathlib import Path

import gradio as gr

from gradios.controls import PRIVATE, two_columns, weights_box
from gradios.desk import Desk, Made
from gradios.examples import clip_video, first_frame
from gradios.flow_sampling import FLOW_SUFFIXES, Asked, Weights, make
from gradios.running import Reporter
from gradios.script import PageScript
from gradios.uploads import image_file, video_file
from gradios.videos import EXAMPLE_SETTINGS, add_base_box, add_video_settings, player
from utils.arguments import run_script
from utils.weights.model_kinds import check_adapter

LEAD = (
    "From a first frame sample a video together with its optical flow, or give one of the two and get the other. "
    "Colours of flow are directions, as in the Middlebury benchmark."
)
WAYS = {
    "joint": "Video and flow from a first frame",
    "video_to_flow": "Flow of a video",
    "flow_to_video": "Video from a first frame and flow",
    "coarse": "Video that follows flow roughly",
}
EXAMPLES = {"A video with its flow": ("joint", 0), "Another one": ("joint", 4), "Flow of a video": ("video_to_flow", 7)}


def build(desk: Desk, own: Weights) -> None:
    """The components of the page, in the open `gr.Blocks`."""

    def parts() -> list:
        return [*add_inputs(), *add_settings(own)]

    two_columns(desk, "flow_video", "Sample video and flow", parts, add_results, sample(desk, own), example, EXAMPLES)


def add_inputs() -> list:
    """Components of what is asked for; those that a mode does not read are hidden."""
    mode = gr.Radio([(text, name) for name, text in WAYS.items()], value="joint", label="What to sample")
    image = image_file("First frame", height=240)
    flows = gr.File(label="Flow, a .flo or .npy for each step", file_count="multiple", file_types=list(FLOW_SUFFIXES))
    video = video_file("Video", height=240)
    strength = gr.Slider(0.05, 1, 0.6, step=0.05, label="Flow anew", info="share of the steps that the flow takes")
    given = [image, flows, video, strength]
    mode.change(show_inputs, mode, given, queue=False, **PRIVATE)
    for part in given[1:]:
        part.visible = False
    return [mode, *given]


def show_inputs(mode: str) -> list:
    """What is seen of the inputs in a mode."""
    flow, video = mode in ("flow_to_video", "coarse"), mode == "video_to_flow"
    return [gr.update(visible=seen) for seen in (not video, flow, video, mode == "coarse")]


def add_settings(own: Weights) -> list:
    """Components of what is folded away."""
    with gr.Accordion("More settings", open=False):
        return [*add_video_settings(), add_base_box(own.base), weights_box("Joint adapter of flow", own.adapter)]


def add_results() -> list:
    """Components of what `sample` gives, in its order."""
    with gr.Row():
        video, flow = player("Video", height=340, min_width=200), player("Optical flow", height=340, min_width=200)
    sheet = gr.Image(label="First frame and the flow of each step", interactive=False, buttons=["fullscreen"])
    return [video, flow, sheet]


def sample(desk: Desk, own: Weights):
    """The generator that the page and clients call."""

    def sample_pair(
        mode,
        image,
        flows,
        video,
        flow_strength,
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
        """A video with its optical flow: from a first frame, or one from the other. Returns the video, its flow, an
        image of the flow, an archive and what the page says."""
        settings = num_inference_steps, max_guidance_scale, motion_bucket_id, fps, num_frames, seed
        names = {path: name for path, name in ((image, "The first frame"), (video, "The video")) if path}

        def work(folder: Path, report: Reporter) -> Made:
            weights = Weights(desk.weights(own.base, base), desk.weights(own.adapter, adapter))
            return make(desk, weights, Asked.read(mode, image, flows, video, flow_strength, *settings), folder, report)

        yield from desk.sample(request, 4, work, names)

    return sample_pair


def example(name: str) -> list:
    """Values of the inputs of an example."""
    mode, number = EXAMPLES[name]
    image, video = (first_frame(number), None) if mode == "joint" else (None, clip_video(number))
    return [mode, image, None, video, 0.6, *EXAMPLE_SETTINGS, "", ""]


def check(own: Weights) -> None:
    check_adapter(own.adapter, "UNetSpatioTemporalConditionModel", "train_flow_video.py", "--adapter")


PAGE = PageScript(__doc__, "Video and flow", LEAD, build, Weights, check)
page, parser, main = PAGE.page, PAGE.parser, PAGE.main


if __name__ == "__main__":
    run_script(main)
