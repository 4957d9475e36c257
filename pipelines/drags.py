"""Shared by commands and pages on dragged points: a pipeline for each method, a call, and the points' errors."""

from pathlib import Path

import torch

from models.svd_controlnet import ControlNetSVD
from pipelines.pipeline_trajectory import METHODS as JOINT_METHODS
from pipelines.pipeline_trajectory import StableVideoDiffusionTrajectoryPipeline
from pipelines.pipeline_trajectory_controlnet import StableVideoDiffusionTrajectoryControlNetPipeline
from utils.commands.results import write_png
from utils.flow.code import FlowCode
from utils.flow.estimate import enlarged_size, estimate_flow
from utils.flow.results import write_flow_results
from utils.pretrained import check_kind, choose_device, load_pipeline
from utils.tracks import Tracks
from utils.tracks.drawing import track_sheet
from utils.tracks.tracks import outside
from utils.video import write_video
from utils.weights.lora import read_training
from utils.weights.model_kinds import check_adapter

METHODS = (*JOINT_METHODS, "controlnet")
DEFAULT_METHOD = "coarse"  # has the smallest error on the embedded weights (docs/evaluation_flow_video.md)

DragPipeline = StableVideoDiffusionTrajectoryPipeline | StableVideoDiffusionTrajectoryControlNetPipeline


def check_drag_weights(method: str, weights: str | Path) -> None:
    """Raises ValueError where the weights are of another kind than the method needs: ControlNet or joint adapter."""
    if method == "controlnet":
        check_kind(weights, ControlNetSVD, "--controlnet")
    else:
        check_adapter(weights, "UNetSpatioTemporalConditionModel", "train_flow_video.py", "--adapter")


def check_drag_speed(method: str, weights: str | Path, tracks: Tracks) -> None:
    """Raises ValueError for tracks that are faster than the flow of a joint adapter on this machine can be."""
    if method == "controlnet" or not Path(weights).exists():
        return
    code = FlowCode.from_training(read_training(weights))
    shown = ~outside(tracks.points[:-1], tracks.width, tracks.height)
    for flow in (tracks.vectors[shown], tracks.camera):
        if flow is not None:
            code.check_speed(flow)


def load_drag_pipeline(
    base: str,
    method: str,
    weights: str,
    device: str | None = None,
    dtype: str = "float32",
    gradient_checkpointing: bool = False,
) -> DragPipeline:
    """The pipeline of a method.

    Args:
        weights: A ControlNet for "controlnet", a joint adapter of flow for the others.
        gradient_checkpointing: Less memory for the gradient of "guided", and more time.
    """
    check_drag_weights(method, weights)
    if method == "controlnet":
        pipe = load_pipeline(StableVideoDiffusionTrajectoryControlNetPipeline, base, dtype, "--model_dir")
        pipe.load_controlnet(weights)
    else:
        pipe = load_pipeline(StableVideoDiffusionTrajectoryPipeline, base, dtype, "--model_dir")
        pipe.load_flow_adapter(weights)
    for network in (pipe.unet, pipe.vae):
        network.requires_grad_(False)  # a gradient by latents needs none by weights
        if gradient_checkpointing:
            network.enable_gradient_checkpointing()
    return pipe.to(choose_device(device))


def sample_drag(
    pipe: DragPipeline, image: torch.Tensor, tracks: Tracks, method: str, **options
) -> tuple[torch.Tensor, torch.Tensor]:
    """A video (F, 3, H, W) in [-1, 1] from an image (3, H, W), following tracks, and its flow (F - 1, 2, H, W), pixels.

    The flow is that which the video follows, guessed or sampled; with a ControlNet it is estimated from the video.

    Args:
        options: Further arguments of the pipeline.
    """
    if method == "controlnet":
        video = pipe(image[None], tracks, output_type="pt", **options).frames[0] * 2 - 1
        return video, estimate_flow(video, inference_size=enlarged_size(video))
    out = pipe(image[None], tracks, method, output_type="pt", **options)
    return out.frames[0] * 2 - 1, out.flows[0]


def path_errors(tracks: Tracks, found: torch.Tensor) -> dict[str, tuple[int, float]]:
    """Number of "dragged" and "static" points, if any, and mean distance from wanted paths after frame 0, pixels.

    Args:
        found: Paths (F, N, 2) of the points in the video.
    """
    distances = (found - tracks.points).norm(dim=-1)[1:].mean(dim=0)
    moves = (tracks.points != tracks.points[:1]).any(dim=0).any(dim=-1)
    groups = {"dragged": distances[moves], "static": distances[~moves]}
    return {name: (len(some), some.mean().item()) for name, some in groups.items() if len(some)}


def write_drag(
    folder: Path,
    video: torch.Tensor,
    flow: torch.Tensor,
    image: torch.Tensor,
    tracks: Tracks,
    found: torch.Tensor,
    fps: float,
) -> list[Path]:
    """Write a video (F, 3, H, W) in [-1, 1], flow (F - 1, 2, H, W), wanted and found paths (F, N, 2) of its points."""
    files = write_flow_results(folder, flow, image, fps)
    write_video(folder / "video.mp4", video, fps)
    write_png(folder / "tracks.png", track_sheet(video, tracks.points, found))
    return [*files, folder / "video.mp4", folder / "tracks.png"]
