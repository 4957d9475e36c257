"""Train a ControlNet with which Stable Video Diffusion moves points along given paths; the base stays as it is.

python train_models/train_trajectory.py --train_data_dir data/clips --output_dir outputs/trajectory

A sample has a few points that are followed through its clip (`utils/data/points.py`). The ControlNet reads them as
images (`utils/tracks/control_map.py`), and the conditioning image of each frame is the first frame moved with them.
Points follow the resizing, crop, flip, stride and direction of the clip. The loss is that of the base.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import torch

from models.svd_controlnet import ControlledUNet, ControlNetSVD
from pipelines.pipeline_stable_video_diffusion_controlnet import StableVideoDiffusionControlNetPipeline
from utils.arguments import parse_args, run_script
from utils.commands.settings import add_settings
from utils.data.points import PointChoice, Points
from utils.diffusion.edm import Denoiser
from utils.tracks.control_map import CONTROL_CHANNELS, draw_control
from utils.tracks.drawing import SMALLEST_SIDE, draw_paths
from utils.tracks.heuristic_flow import move_image
from utils.training.svd import SVDTraining, start_svd
from utils.training.svd_arguments import svd_parser
from utils.training.svd_losses import draw_condition, encode_clips
from utils.training.validation import HeldOut, sample_options
from utils.video import to_frames


def main(argv=None) -> None:
    args = parse_args(make_parser(), argv)
    if not 0 <= args.control_dropout_prob <= 1:
        raise ValueError(f"--control_dropout_prob {args.control_dropout_prob} is not a share: pass 0 to 1.")
    choice = PointChoice.from_args(args)
    svd = start_svd(args, [Points(choice, args.points_from)], StableVideoDiffusionControlNetPipeline)
    add_controlnet(svd.pipe, args.controlnet_model_name_or_path)
    model = ControlledUNet(svd.pipe.unet, svd.pipe.controlnet)

    def save(model, folder: Path) -> None:
        if svd.buckets:
            svd.buckets.save(folder)
        model.controlnet.half().save_pretrained(folder)

    def loss(model, batch):
        return trajectory_loss(model, batch, svd.encoder, svd.edm, args)

    parameters = list(svd.pipe.controlnet.parameters())
    show = partial(show_paths, svd)
    svd.fit(loss, save=save, parameters=parameters, model=model, measure=control_errors, show=show)


def make_parser() -> argparse.ArgumentParser:
    parser = svd_parser(__doc__, gradient_checkpointing=True)
    group = parser.add_argument_group("control")
    group.add_argument(
        "--controlnet_model_name_or_path", help="ControlNet to train further (default: a copy of the base)"
    )
    add_control_arguments(group)
    return parser


def add_control_arguments(group) -> None:
    add = group.add_argument
    places = "tracks of the data set, or random points that its flow carries along"
    add("--points_from", choices=["tracks", "flow"], default="tracks", help=places)
    add_settings(group, PointChoice)
    add("--control_dropout_prob", type=float, default=0.1, help="share of samples without any point")


def trajectory_loss(model, batch, encoder, edm, args):
    """||F - v||² at one noise level a clip, with the control of the points."""
    x_0 = encode_clips(batch, encoder.vae)
    B, F = x_0.shape[:2]
    kept = (torch.rand(B) >= args.control_dropout_prob).to(x_0.device)
    points, shown, image = batch["points"], batch["shown"] & kept[:, None, None], batch["image"]
    moved = torch.stack([move_image(*clip) for clip in zip(points, shown, image, strict=True)])
    condition = draw_condition(batch, F, encoder, args, moved)
    control = draw_control(points, shown, image.shape[-2:])
    sigma = edm.draw_sigmas(B).to(x_0.device)
    denoiser = Denoiser(partial(model, control=control), edm)
    return denoiser.loss(x_0, torch.randn_like(x_0), sigma, condition).mean()


def add_controlnet(pipe: StableVideoDiffusionControlNetPipeline, name: str | None) -> None:
    """Give the pipeline the ControlNet to train: that of a folder or hub name, or a copy of the base."""
    if name:
        pipe.load_controlnet(name)
    else:
        pipe.controlnet = ControlNetSVD.from_unet(pipe.unet, CONTROL_CHANNELS, pipe.vae_scale_factor)
    channels = pipe.controlnet.config.conditioning_channels
    if channels != CONTROL_CHANNELS:
        raise ValueError(f"The ControlNet reads {channels} channels, and tracks have {CONTROL_CHANNELS}.")


def control_errors(model, clip: HeldOut) -> dict[str, torch.Tensor]:
    """Mean errors of v: `loss` with the control, and `base` without it, its conditioning image standing still."""
    control, moved = control_of(clip.sample)
    x_0 = clip.encode(clip.sample["pixel_values"])[None]
    conditions = clip.conditions(None, moved)
    found = {"loss": [], "base": []}
    for sigma, noise in clip.levels(x_0):
        for name, scale, condition in zip(("base", "loss"), (0.0, 1.0), conditions, strict=True):
            controlled = partial(model, control=control.to(x_0), conditioning_scale=scale)
            found[name].append(Denoiser(controlled, clip.svd.edm).loss(x_0, noise, sigma[None], condition))
    return {name: torch.cat(errors).mean() for name, errors in found.items()}


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
