"""Train a ControlNet with which Stable Video Diffusion moves points along given paths; the base stays as it is.

python train_models/train_trajectory.py --train_data_dir data/clips --output_dir outputs/trajectory

A sample has a few points that are followed through its clip (`utils/data/points.py`). The ControlNet reads them as
images (`utils/tracks/control_map.py`), and the conditioning image of each frame is the first frame moved with them.
Points follow the resizing, crop, flip, stride and direction of the clip. The loss is that of the base.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from models.svd_controlnet import ControlledUNet
from pipelines.pipeline_stable_video_diffusion_controlnet import StableVideoDiffusionControlNetPipeline
from utils.arguments import parse_args, run_script
from utils.commands.settings import add_settings
from utils.data.points import PointChoice, Points
from utils.tracks.control_map import CONTROL_CHANNELS, draw_control
from utils.tracks.drawing import SMALLEST_SIDE, draw_paths
from utils.tracks.heuristic_flow import move_image
from utils.training import controlnet
from utils.training.svd import SVDTraining, start_svd
from utils.training.validation import HeldOut, sample_options
from utils.video import to_frames


def main(argv=None) -> None:
    args = parse_args(make_parser(), argv)
    choice = PointChoice.from_args(args)
    svd = start_svd(args, [Points(choice, args.points_from)], StableVideoDiffusionControlNetPipeline)
    svd.pipe.start_controlnet(CONTROL_CHANNELS, "tracks", args.controlnet_model_name_or_path)

    def loss(model, batch):
        return trajectory_loss(model, batch, svd.encoder, svd.edm, args)

    controlnet.fit(svd, ControlledUNet(svd.pipe.unet, svd.pipe.controlnet), loss, measure, show_paths)


def make_parser() -> argparse.ArgumentParser:
    parser, group = controlnet.make_parser(__doc__)
    places = "tracks of the data set, or random points that its flow carries along"
    group.add_argument("--points_from", choices=["tracks", "flow"], default="tracks", help=places)
    add_settings(group, PointChoice)
    return parser


def trajectory_loss(model, batch, encoder, edm, args) -> torch.Tensor:
    """||F - v||² at one noise level a clip, with the control of the points."""
    points, image = batch["points"], batch["image"]
    shown = batch["shown"] & controlnet.draw_kept(batch, args)[:, None, None]
    moved = torch.stack([move_image(*clip) for clip in zip(points, shown, image, strict=True)])
    control = draw_control(points, shown, image.shape[-2:])
    return controlnet.v_loss(model, batch, control, encoder, edm, args, moved)


def measure(model, clip: HeldOut) -> dict[str, torch.Tensor]:
    """The errors of `controlnet.v_errors`; in `base` the conditioning image stands still."""
    return controlnet.v_errors(model, clip, *control_of(clip.sample))


def show_paths(svd: SVDTraining, sample: dict, path: Path) -> list[np.ndarray]:
    """The true frames above those that follow the control, with the paths of the points up to each frame."""
    control, moved = control_of(sample)
    options = sample_options(sample, svd.args) | {"control": control, "image_frames": moved, "output_type": "pt"}
    video = svd.pipe(sample["image"][None], **options).frames[0] * 2 - 1
    paths = sample["points"][:, sample["shown"][0]]
    scale = max(1, round(SMALLEST_SIDE / min(video.shape[-2:])))
    return [
        np.stack([draw_paths(frame, paths[: k + 1], scale=scale) for k, frame in enumerate(to_frames(frames))])
        for frames in (sample["pixel_values"], video.cpu().float())
    ]


def control_of(sample: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """The control (1, F, C, H, W) of a held-out sample, and its image moved with the points (1, F, 3, H, W)."""
    points, shown, image = sample["points"], sample["shown"], sample["image"]
    return draw_control(points, shown, image.shape[-2:])[None], move_image(points, shown, image)[None]


if __name__ == "__main__":
    run_script(main)
