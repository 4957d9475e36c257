"""A page that samples images with their depth and edges, and each from the others.

python gradios/gradio_depth_image.py
python gradios/gradio_depth_image.py --pretrained_model_name_or_path … --adapter depth.safetensors
"""

import argparse
from functools import partial
from pathlib import Path

import gradio as gr

from gradios.controls import add_seed, hint, two_columns, weights_box
from gradios.desk import Desk, Made
from gradios.examples import scene_files
from gradios.frame import Page, add_server_arguments, serve
from gradios.pair_sampling import MAX_PAIRS, MAX_SCALE, MAX_STEPS, Asked, Weights, make
from gradios.pair_view import PairView
from gradios.running import Reporter
from gradios.uploads import image_file
from pipelines.image_pairs import name_adapters
from utils.arguments import make_parser, parse_args, run_script

LEAD = (
    "Describe an image and get it together with its depth, or give one of the two and get the other. "
    "The sliders say how much of what you give is made anew."
)
PROMPT = "a red cube and a blue sphere on a gray floor, white wall"
EXAMPLES = {  # number of the scene by what the button says
    "A pair from words": 0,
    "Depth of an image": 3,
    "Image from depth": 5,
    "Another image, near this one": 8,
}


def sample(desk: Desk, own: Weights):
    """The generator that the page and clients call."""

    def sample_pair(
        image,
        depth,
        edges,
        prompt,
        negative_prompt,
        image_strength,
        condition_strength,
        with_edges,
        pairs,
        num_inference_steps,
        guidance_scale,
        condition_guidance_scale,
        seed,
        base,
        adapters,
        request: gr.Request,
    ):
        """An image with its depth: from a prompt, or one from the other. Returns both, their view in three dimensions,
        all pairs, an archive and what the page says."""
        what = image, depth, edges, prompt, negative_prompt, image_strength, condition_strength, with_edges
        how = pairs, num_inference_steps, guidance_scale, condition_guidance_scale, seed
        names = {path: name for path, name in ((image, "Image"), (depth, "Depth"), (edges, "Edges")) if path}

        def work(folder: Path, report: Reporter) -> Made:
            paths = desk.weights("", adapters).split() or own.adapters
            return make(desk, Weights(desk.weights(own.base, base), tuple(paths)), Asked(*what, *how), folder, report)

        yield from desk.sample(request, 4, work, names)

    return sample_pair


def build(desk: Desk, own: Weights) -> None:
    """The components of the page, in the open `gr.Blocks`."""
    parts = partial(add_inputs, own)
    named = example, EXAMPLES
    two_columns(desk, "depth_image", "Sample the pair", parts, add_results, sample(desk, own), *named, submit=3)


def add_inputs(own: Weights) -> list:
    """Components of what `sample` takes, in its order."""
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
        pairs = gr.Slider(1, MAX_PAIRS, 1, step=1, label="Pairs")
        seed = add_seed()
        steps = gr.Slider(1, MAX_STEPS, 30, step=1, label="Denoising steps")
        scale = gr.Slider(0, MAX_SCALE, 5, step=0.5, label="Guidance scale of the prompt", info="1 or less: none.")
        joint = gr.Slider(0, MAX_SCALE, 0, step=0.5, label="Guidance scale of the joint attention", info="0: none.")
        negative = gr.Textbox("", label="Negative prompt", placeholder="what is not to be in the image")
        base = weights_box("Stable Diffusion base", own.base)
        adapters = weights_box("Joint adapters", " ".join(own.adapters))
    what = [image, depth, edges, prompt, negative, image_strength, condition_strength, with_edges]
    return [*what, pairs, steps, scale, joint, seed, base, adapters]


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


def example(name: str) -> list:
    """Values of the inputs of an example."""
    image, depth, prompt = scene_files(EXAMPLES[name])
    edges = None
    given = {
        "A pair from words": (None, None, None, PROMPT, 0, 0),
        "Depth of an image": (image, None, None, "", 0, 0),
        "Image from depth": (None, depth, None, prompt, 0, 0),
        "Another image, near this one": (image, depth, edges, prompt, 0.7, 0.2),
    }[name]
    image, depth, edges, prompt, image_strength, condition_strength = given
    return [image, depth, edges, prompt, "", image_strength, condition_strength, False, 1, 30, 5, 0, 0, "", ""]


def page(own: Weights) -> Page:
    return Page("Image and depth", LEAD, partial(build, own=own))


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    group = result.add_argument_group("weights")
    own = Weights()
    group.add_argument(
        "--pretrained_model_name_or_path", default=own.base, help="folder or hub name of a Stable Diffusion base"
    )
    group.add_argument(
        "--adapter", nargs="+", default=list(own.adapters), metavar="[NAME=]PATH", help="its joint adapters"
    )
    add_server_arguments(result)
    return result


def main(argv=None) -> None:
    """Opens the page."""
    args = parse_args(parser(), argv)
    name_adapters(args.adapter)
    serve([page(Weights(args.pretrained_model_name_or_path, tuple(args.adapter)))], args)


if __name__ == "__main__":
    run_script(main)
