"""A page that samples videos with their optical flow, and each from the other.

python gradios/gradio_flow_video.py
python gradios/gradio_flow_video.py --model_dir … --adapter …
"""

from functools import partial

import gradio as gr

from gradios.controls import PRIVATE, weights_box
from gradios.examples import clip_video, first_frame
from gradios.flow_sampling import FLOW_SUFFIXES, Asked, Weights, estimates, make
from gradios.form import Form
from gradios.script import PageScript
from gradios.uploads import image_file, video_file
from gradios.videos import add_base_box, add_video_settings, frames_sheet, player
from utils.arguments import run_script
from utils.weights.model_kinds import check_adapter

LEAD = (
    "From a first frame sample a video together with its optical flow, or give one of the two and get the other. "
    "Colours of flow are directions, as in the Middlebury benchmark."
)
SAMPLED = ("num_inference_steps", "motion_bucket_id")  # and the seed, in a row of its own
WAYS = {
    "joint": "Video and flow from a first frame",
    "video_to_flow": "Flow of a video",
    "flow_to_video": "Video from a first frame and flow",
    "coarse": "Video that follows flow roughly",
}


def add_inputs(own: Weights) -> dict:
    """Components of what is asked for, by the names of the API."""
    given = add_given()
    with gr.Accordion("More settings", open=False):
        settings = add_video_settings()
        weights = {"base": add_base_box(own.base), "adapter": weights_box("Joint adapter of flow", own.adapter)}
    shown = [given[name] for name in ("image", "flows", "video", "flow_strength")] + [settings["max_guidance_scale"]]
    shown += [*(settings[name] for name in SAMPLED), settings["seed"].parent]
    for changed in (given["mode"], weights["adapter"]):
        changed.change(
            partial(show_inputs, own.adapter), [given["mode"], weights["adapter"]], shown, queue=False, **PRIVATE
        )
    return given | settings | weights


def add_given() -> dict:
    """The mode and what it reads."""
    mode = gr.Radio([(text, name) for name, text in WAYS.items()], value="joint", label="What to sample")
    image = image_file("First frame", height=240)
    flows = gr.File(label="Flow, a .flo or .npy for each step", file_count="multiple", file_types=list(FLOW_SUFFIXES))
    video = video_file("Video", height=240)
    strength = gr.Slider(0.05, 1, 0.6, step=0.05, label="Flow anew", info="share of the steps that the flow takes")
    for part in (flows, video, strength):
        part.visible = False
    return {"mode": mode, "image": image, "flows": flows, "video": video, "flow_strength": strength}


def show_inputs(own_adapter: str, mode: str, adapter: str) -> list:
    """What is seen of the inputs, and of the settings; what is not read is hidden.

    Args:
        own_adapter: The page's.
        adapter: A visitor's, or nothing.
    """
    flow, video = mode in ("flow_to_video", "coarse"), mode == "video_to_flow"
    sampled = not estimates(mode, adapter or own_adapter)
    seen = (not video, flow, video, mode == "coarse", not video, *[sampled] * (len(SAMPLED) + 1))
    return [gr.update(visible=one) for one in seen]


def add_results() -> list:
    """Components of what `sample` gives, in its order."""
    with gr.Row():
        video, flow = player("Video", height=340, min_width=200), player("Optical flow", height=340, min_width=200)
    return [video, flow, frames_sheet("First frame and the flow of each step")]


EXAMPLES = {
    "A video with its flow": lambda: {"mode": "joint", "image": first_frame(0)},
    "Another one": lambda: {"mode": "joint", "image": first_frame(4)},
    "Flow of a video": lambda: {"mode": "video_to_flow", "video": clip_video(7)},
}


def check(own: Weights) -> None:
    check_adapter(own.adapter, "UNetSpatioTemporalConditionModel", "train_flow_video.py", "--adapter")


FORM = Form(
    "flow_video",
    "A video with its optical flow: from a first frame, or one from the other. "
    "Returns the video, its flow, an image of the flow, an archive and what the page says.",
    "Sample video and flow",
    add_inputs,
    add_results,
    Asked.read,
    make,
    EXAMPLES,
    {"image": "The first frame", "video": "The video"},
)
PAGE = PageScript(__doc__, "Video and flow", LEAD, FORM.build, Weights, check)
page, parser, main = PAGE.page, PAGE.parser, PAGE.main


if __name__ == "__main__":
    run_script(main)
