"""All pages, as tabs of one server that holds one model at a time.

python -m gradios
python -m gradios --server_name 0.0.0.0 --auth me:secret
"""

import argparse

from gradios import gradio_depth_image
from gradios.frame import add_server_arguments, serve
from gradios.pair_sampling import Weights as PairWeights
from pipelines.image_pairs import name_adapters
from utils.arguments import make_parser, parse_args, run_script


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    own = PairWeights()
    add = result.add_argument_group("weights of images").add_argument
    add("--pretrained_model_name_or_path", default=own.base, help="folder or hub name of a Stable Diffusion base")
    adapters = "joint adapters of images, files, folders or hub names"
    add("--image_adapter", nargs="+", default=list(own.adapters), metavar="[NAME=]PATH", help=adapters)
    add_server_arguments(result)
    return result


def main(argv=None) -> None:
    """Opens all pages."""
    args = parse_args(parser(), argv)
    name_adapters(args.image_adapter)
    images = PairWeights(args.pretrained_model_name_or_path, tuple(args.image_adapter))
    serve([gradio_depth_image.page(images)], args)


if __name__ == "__main__":
    run_script(main)
