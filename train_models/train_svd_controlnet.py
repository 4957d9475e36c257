"""Train a ControlNet with which videos of Stable Video Diffusion follow images over time; the base stays as it is.

python train_models/train_svd_controlnet.py --control depth --train_data_dir data/clips --output_dir outputs/depth

--control is depth, segmentation, flow, edge, or folder, any images that belong to the frames (`utils/data/control.py`).
Edges are found in the frames, the others are annotations of the data set. The control goes through the same resizing,
crop, flip, stride and direction as its clip. The loss is that of the base.
"""

import argparse
from pathlib import Path

import torch

from models.svd_controlnet import ControlledUNet
from pipelines.pipeline_stable_video_diffusion_controlnet import StableVideoDiffusionControlNetPipeline
from utils.arguments import parse_args, run_script
from utils.data.control import CONTROL_CHANNELS, SOURCES, ControlImages
from utils.training import controlnet
from utils.training.svd import SVDTraining, start_svd
from utils.training.validation import HeldOut, sample_options


def main(argv=None) -> None:
    args = parse_args(make_parser(), argv)
    svd = start_svd(args, [ControlImages(args.control)], StableVideoDiffusionControlNetPipeline)
    svd.pipe.start_controlnet(CONTROL_CHANNELS, args.control, args.controlnet_model_name_or_path)

    def loss(model, batch):
        return controlnet_loss(model, batch, svd.encoder, svd.edm, args)

    controlnet.fit(svd, ControlledUNet(svd.pipe.unet, svd.pipe.controlnet), loss, measure, show_control)


def make_parser() -> argparse.ArgumentParser:
    parser, group = controlnet.make_parser(__doc__)
    kinds = "what the ControlNet reads of each frame; folder: the images that metadata.jsonl names as control_file_name"
    group.add_argument("--control", choices=list(SOURCES), required=True, help=kinds)
    return parser


def controlnet_loss(model, batch, encoder, edm, args) -> torch.Tensor:
    """||F - v||² at one noise level a clip, with the control, which is zero for some samples."""
    kept = controlnet.draw_kept(batch, args)[:, None, None, None, None]
    return controlnet.v_loss(model, batch, batch["control"] * kept, encoder, edm, args)


def measure(model, clip: HeldOut) -> dict[str, torch.Tensor]:
    return controlnet.v_errors(model, clip, clip.sample["control"][None])


def show_control(svd: SVDTraining, sample: dict, path: Path) -> list[torch.Tensor]:
    """The true frames (F, 3, H, W), their control, and the frames that are sampled with it."""
    options = sample_options(sample, svd.args) | {"control": sample["control"][None], "output_type": "pt"}
    video = svd.pipe(sample["image"][None], **options).frames[0] * 2 - 1
    return [sample["pixel_values"], sample["control"], video.cpu().float()]


if __name__ == "__main__":
    run_script(main)
