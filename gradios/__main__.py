"""All pages, as tabs of one server that holds one model at a time.

python -m gradios
python -m gradios --server_name 0.0.0.0 --auth me:secret
"""

import argparse

from gradios import gradio_depth_image, gradio_flow_video, gradio_interpolation, gradio_keyframe_edit, gradio_trajectory
from gradios.between_sampling import Weights as BetweenWeights
from gradios.drags_sampling import Weights as DragWeights
from gradios.edit_sampling import Weights as EditWeights
from gradios.flow_sampling import Weights as FlowWeights
from gradios.frame import Page, add_server_arguments, serve
from gradios.pair_sampling import Weights as PairWeights
from pipelines.drags import METHODS, check_drag_weights
from utils.arguments import make_parser, parse_args, run_script


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    own, add = PairWeights(), result.add_argument_group("weights of images").add_argument
    add("--pretrained_model_name_or_path", default=own.base, help="folder or hub name of a Stable Diffusion base")
    adapters = "joint adapters of images, files, folders or hub names"
    add("--image_adapter", nargs="+", default=list(own.adapters), metavar="[NAME=]PATH", help=adapters)
    estimator = "adapter of train_depth_image.py --objective one_step, for the depth of videos"
    add("--one_step_adapter", default=own.estimator, help=estimator)
    own, add = DragWeights(), result.add_argument_group("weights of videos").add_argument
    add("--model_dir", default=own.base, help="folder or hub name of a Stable Video Diffusion base")
    add("--flow_adapter", default=own.adapter, help="joint adapter of train_flow_video.py")
    add("--controlnet", default=own.controlnet, help="folder of train_trajectory.py")
    between = "folder of train_svd_trans.py (default: that of the project, if any)"
    add("--trans_adapter", default=BetweenWeights().adapter, help=between)
    add_server_arguments(result)
    return result


def pages(args: argparse.Namespace) -> list[Page]:
    """All pages with their weights."""
    images = PairWeights(args.pretrained_model_name_or_path, tuple(args.image_adapter), args.one_step_adapter)
    return [
        gradio_depth_image.page(images),
        gradio_trajectory.page(DragWeights(args.model_dir, args.controlnet, args.flow_adapter)),
        gradio_flow_video.page(FlowWeights(args.model_dir, args.flow_adapter)),
        gradio_interpolation.page(BetweenWeights(args.model_dir, args.trans_adapter)),
        gradio_keyframe_edit.page(EditWeights(images.base, args.model_dir, images.depth, args.trans_adapter)),
    ]


def main(argv=None) -> None:
    """Opens all pages."""
    args = parse_args(parser(), argv)
    images = PairWeights(adapters=tuple(args.image_adapter), estimator=args.one_step_adapter)
    gradio_depth_image.check(images, "--image_adapter")
    for method in METHODS:
        check_drag_weights(method, args.controlnet if method == "controlnet" else args.flow_adapter)
    serve(pages(args), args)


if __name__ == "__main__":
    run_script(main)
