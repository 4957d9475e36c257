"""A page on which one drags points of an image and samples the video that follows them.

python gradios/gradio_trajectory.py
python gradios/gradio_trajectory.py --model_dir … --adapter … --controlnet …
"""

import json
from functools import partial

import gradio as gr

from gradios.controls import PRIVATE, weights_box
from gradios.desk import Desk
from gradios.drags_sampling import Asked, Weights, make
from gradios.examples import clip_files
from gradios.form import Form
from gradios.frame import asset
from gradios.messages import one_sentence
from gradios.script import PageScript
from gradios.track_pad import TrackPad, on_image, read_pad, to_content, to_text
from gradios.uploads import check_image, image_file
from gradios.videos import add_base_box, add_video_settings, frames_sheet, player
from pipelines.drags import DEFAULT_METHOD, METHODS, check_drag_weights
from utils.arguments import run_script
from utils.images import image_size
from utils.tracks.camera import PRESETS
from utils.tracks.files import read_track_file

LEAD = (
    "Drag points of the first frame along paths, keep others in place, or move the camera, and sample the video. "
    "Wanted paths are green; those that optical flow finds in the video are red."
)
CAMERAS = [("still", ""), *((name.replace("_", " "), name) for name in PRESETS)]
WAYS = {
    "coarse": "Joint model: flow guessed from the paths, then the video",
    "controlnet": "ControlNet: the frame is warped along the paths and mended",
    "guided": "Joint model, led to the paths at every step (slow)",
}


def build(desk: Desk, own: Weights) -> None:
    """The components of the page, in the open `gr.Blocks`."""
    with gr.Row():
        with gr.Column(scale=6, min_width=300):
            pad = TrackPad(label="First frame with paths", elem_id="duet-pad")
            with gr.Row():
                save = gr.Button("Save the tracks", size="sm", min_width=120)
                opened = gr.UploadButton("Open tracks", size="sm", min_width=120, file_types=[".json", ".npy"])
            chips = FORM.add_examples()
            inputs = add_inputs(pad, own)
        with gr.Column(scale=5, min_width=300):
            actions = FORM.add_actions()
            results = add_results()
    FORM.connect(desk, own, actions, inputs, results, chips)
    add_files(inputs, save, opened, actions.status)


def add_inputs(pad: TrackPad, own: Weights) -> dict:
    """Components of what is asked for, by the names of the API."""
    image = image_file("First frame", height=150)
    with gr.Row():
        camera = gr.Dropdown(CAMERAS, value="", label="Camera", min_width=140)
        speed = gr.Number(
            1.0, label="Speed", info="pixels or degrees per frame; zoom: factor per frame, above 1", min_width=140
        )
    what = {"image": image, "tracks": pad, "camera": camera, "camera_speed": speed}
    with gr.Accordion("More settings", open=False):
        method = gr.Radio([(text, name) for name, text in WAYS.items()], value=DEFAULT_METHOD, label="Method")
        settings = add_video_settings()
        weights = {
            "base": add_base_box(own.base),
            "controlnet": weights_box("ControlNet", own.controlnet),
            "adapter": weights_box("Joint adapter of flow", own.adapter),
        }
    return what | {"method": method} | settings | weights


def add_results() -> list:
    """Components of what `sample` gives, in its order."""
    paths = player("Wanted and obtained paths", height=380)
    with gr.Row():
        video, flow = player("Video", height=230, min_width=140), player("Optical flow", height=230, min_width=140)
    with gr.Accordion("All frames", open=False):
        sheet = frames_sheet("Paths frame by frame")
    return [paths, video, flow, sheet]


def add_files(inputs: dict, save, opened, said) -> None:
    """Let the image come onto the pad, and tracks be saved and opened."""
    image, pad, camera, speed = (inputs[name] for name in ("image", "tracks", "camera", "camera_speed"))
    for event in (image.upload, image.clear):
        event(show_image, [image], [pad], queue=False, **PRIVATE)
    text = gr.Textbox(visible=False)
    written = save.click(save_tracks, [pad, camera, speed], text, queue=False, **PRIVATE)
    written.success(None, text, js=asset("save_text.js"), **PRIVATE)
    opened.upload(open_tracks, [opened, image], [pad, camera, speed], queue=False, api_visibility="private")


def show_image(path: str | None):
    """The pad with an image."""
    if not path:
        return gr.skip()
    with one_sentence({path: "The first frame"}):
        return on_image(check_image("The first frame", path))


def save_tracks(text: str, preset: str, speed: float) -> str:
    """The text of a file of tracks that `run_trajectory.py` reads."""
    with one_sentence():
        return to_text(read_pad(text, preset, speed))


def open_tracks(path: str, image: str | None) -> tuple:
    """The pad, the camera and its speed by a file of tracks."""
    with one_sentence({str(path): "The file of tracks", str(image): "The first frame"}):
        if not image:
            raise ValueError("There is no first frame: give the image that the tracks are for.")
        file = read_track_file(path, *image_size(image))
        content = read_pad(json.dumps(to_content(file)))
        preset, speed = file.camera or ("", 1.0)
        return on_image(image, content), preset, speed


def drags(number: int) -> dict:
    """Values of inputs of an example, by name."""
    image, content, camera, speed = clip_files(number)
    return {"image": image, "tracks": on_image(image, content), "camera": camera, "camera_speed": speed}


EXAMPLES = {
    "Drag an object": partial(drags, 0),
    "Pan the camera": partial(drags, 1),
    "Two paths, one way": partial(drags, 2),
}


def check(own: Weights) -> None:
    for method in METHODS:
        check_drag_weights(method, own.of(method)[1])


FORM = Form(
    "trajectory",
    "A video that begins with an image and follows tracks, the text of a file of tracks. "
    "Returns the video with the wanted and obtained paths, the video, its flow, all frames, an archive "
    "and what the page says.",
    "Sample the video",
    add_inputs,
    add_results,
    Asked.read,
    make,
    EXAMPLES,
    {"image": "The first frame"},
)
PAGE = PageScript(__doc__, "Dragged points", LEAD, build, Weights, check)
page, parser, main = PAGE.page, PAGE.parser, PAGE.main


if __name__ == "__main__":
    run_script(main)
