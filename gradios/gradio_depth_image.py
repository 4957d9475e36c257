"""A page that samples images with their depth and edges, and each from the others; and the depth of a video.

python gradios/gradio_depth_image.py
python gradios/gradio_depth_image.py --pretrained_model_name_or_path … --adapter depth.safetensors
"""

from functools import partial

import gradio as gr

from gradios import clip_form
from gradios.controls import add_seed, hint, weights_box
from gradios.desk import Desk
from gradios.examples import scene_files
from gradios.form import Form
from gradios.pair_sampling import MAX_PAIRS, MAX_SCALE, MAX_STEPS, Asked, Weights, make
from gradios.pair_view import PairView
from gradios.script import PageScript
from gradios.uploads import image_file
from pipelines.image_pairs import check_depth_adapter, check_samples, name_adapters
from utils.arguments import run_script

LEAD = (
    "Describe an image and get it together with its depth, or give one of the two and get the other. "
    "The sliders say how much of what you give is made anew."
)
PROMPT = "a red cube and a blue sphere on a gray floor, white wall"


def build(desk: Desk, own: Weights) -> None:
    """Both parts of the page, in the open `gr.Blocks`."""
    with gr.Tab("Image"):
        FORM.build(desk, own)
    with gr.Tab("Depth of a video"):
        clip_form.FORM.build(desk, own)


def add_inputs(own: Weights) -> dict:
    """Components of what is asked for, by the names of the API."""
    prompt = gr.Textbox(PROMPT, label="Prompt", placeholder="what is in the image", lines=2, max_lines=4)
    with gr.Row():
        image = image_file("Image (optional)")
        depth = image_file("Depth (optional)")
    with gr.Row():
        image_strength = gr.Slider(0, 1, 0, step=0.05, label="Image anew", info="0 keeps it, 1 forgets it")
        condition_strength = gr.Slider(0, 1, 0, step=0.05, label="Depth anew", info="0 keeps it, 1 forgets it")
    with gr.Accordion("Edges, a second condition", open=False):
        hint("White lines on black. They count beside the depth, or alone, and are made anew as the depth is.")
        edges = image_file("Edges (optional)")
        with_edges = gr.Checkbox(False, label="Sample edges too")
    with gr.Accordion("More settings", open=False):
        settings = add_settings()
        base = weights_box("Stable Diffusion base", own.base)
        adapters = weights_box("Joint adapters", " ".join(own.adapters))
    return {
        "image": image,
        "depth": depth,
        "edges": edges,
        "prompt": prompt,
        "negative_prompt": settings.pop("negative_prompt"),
        "image_strength": image_strength,
        "condition_strength": condition_strength,
        "with_edges": with_edges,
        **settings,
        "base": base,
        "adapters": adapters,
    }


def add_settings() -> dict:
    """Components of the sampling."""
    pairs = gr.Slider(1, MAX_PAIRS, 1, step=1, label="Pairs")
    seed = add_seed()
    steps = gr.Slider(1, MAX_STEPS, 30, step=1, label="Denoising steps")
    scale = gr.Slider(0, MAX_SCALE, 5, step=0.5, label="Guidance scale of the prompt", info="1 or less: none.")
    joint = gr.Slider(0, MAX_SCALE, 0, step=0.5, label="Guidance scale of the joint attention", info="0: none.")
    negative = gr.Textbox("", label="Negative prompt", placeholder="what is not to be in the image")
    return {
        "negative_prompt": negative,
        "pairs": pairs,
        "num_inference_steps": steps,
        "guidance_scale": scale,
        "condition_guidance_scale": joint,
        "seed": seed,
    }


def add_results() -> list:
    """Components of what `sample` gives, in its order."""
    pair = gr.ImageSlider(
        label="Image and depth", height=420, elem_classes="duet-pixels", interactive=False, buttons=["fullscreen"]
    )
    view = PairView(label="Pair in three dimensions")
    sheets = gr.Gallery(
        label="All pairs",
        columns=2,
        height="auto",
        object_fit="contain",
        elem_classes="duet-pixels duet-more",
        interactive=False,
    )
    return [pair, view, sheets]


def scene(number: int, *names: str, **values) -> dict:
    """Values of inputs of an example, by name: an unseen scene, or what is named of it."""
    given = dict(zip(("image", "depth", "prompt"), scene_files(number), strict=True))
    return {"prompt": ""} | {name: given[name] for name in names} | values


EXAMPLES = {
    "A pair from words": dict,
    "Depth of an image": partial(scene, 3, "image"),
    "Image from depth": partial(scene, 5, "depth", "prompt"),
    "Another image, near this one": partial(
        scene, 8, "image", "depth", "prompt", image_strength=0.7, condition_strength=0.2
    ),
}


def check(own: Weights, flag: str = "--adapter") -> None:
    """Raises ValueError for weights that the page cannot use; `flag` is that of the joint adapters."""
    for path in name_adapters(own.adapters, flag).values():
        check_samples(path, flag)
    check_depth_adapter(own.estimator, "--one_step_adapter")


FORM = Form(
    "depth_image",
    "An image with its depth: from a prompt, or one from the other. "
    "Returns both, their view in three dimensions, all pairs, an archive and what the page says.",
    "Sample the pair",
    add_inputs,
    add_results,
    Asked,
    make,
    EXAMPLES,
    {"image": "Image", "depth": "Depth", "edges": "Edges"},
    submit="prompt",
)
PAGE = PageScript(__doc__, "Image and depth", LEAD, build, Weights, check)
page, parser, main = PAGE.page, PAGE.parser, PAGE.main


if __name__ == "__main__":
    run_script(main)
