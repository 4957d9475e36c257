"""The methods of `benchmarks.eval_trajectory`: functions from scenes to videos (B, F, 3, H, W) in [-1, 1].

All that sample take the same noise for a scene and the motion bucket of its true video.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from PIL import Image

from benchmarks.drag_scenes import DragScene, DragScenes
from benchmarks.protocol import Chunk
from benchmarks.trajectory_score import hold, obtained_paths, score
from benchmarks.video_bench import VideoBench, eight_bits, reconstruct_clips
from pipelines.pipeline_trajectory import StableVideoDiffusionTrajectoryPipeline
from pipelines.pipeline_trajectory_controlnet import StableVideoDiffusionTrajectoryControlNetPipeline
from pipelines.steering import Steering
from utils.diffusion.sampling import FlowSampling
from utils.flow.warp import warp as look_up
from utils.tracks import Tracks, dense_flow
from utils.tracks.drawing import draw_paths
from utils.tracks.guess import track_images
from utils.video import contact_sheet, to_frames

ENLARGED = 3  # times, frames of the sheet


class DragBench(VideoBench):
    """Models and scenes."""

    def __init__(self, args):
        super().__init__(args)
        self.scenes = DragScenes(args.cache_dir, args.first_seed, args.num_frames, args.resolution)

    @cached_property
    def trajectory_pipe(self) -> StableVideoDiffusionTrajectoryPipeline:
        """The base with the joint adapter."""
        pipe = self.load(StableVideoDiffusionTrajectoryPipeline)
        pipe.load_flow_adapter(self.args.adapter)
        for network in (pipe.unet, pipe.vae):
            network.requires_grad_(False)  # a gradient by latents needs none by weights
        return pipe.to(self.args.device)

    @cached_property
    def controlnet_pipe(self) -> StableVideoDiffusionTrajectoryControlNetPipeline:
        """The base with the ControlNet."""
        return self.load_controlled(StableVideoDiffusionTrajectoryControlNetPipeline)

    def options(self, indices: range, scenes: Sequence[DragScene]) -> dict:
        """Keyword arguments of a pipeline."""
        buckets = self.true_buckets(torch.stack([scene.pixels for scene in scenes]))
        return {"generator": self.noise(indices), "output_type": "pt"} | self.sampling(motion_bucket_id=buckets)

    def measure(self, indices: range, method: str) -> Chunk:
        """Rows and a sheet of a method's videos."""
        scenes = [self.scenes.scene(i) for i in indices]
        videos = eight_bits(METHODS[method](self, indices, scenes).float().cpu())
        with torch.no_grad():
            features = self.video_judge.features(videos.to(self.args.device)).tolist()
        rows = [
            score(video, scene) | {"features": feature, "motion": self.flow(video).norm(dim=1).mean().item()}
            for video, scene, feature in zip(videos, scenes, features, strict=True)
        ]
        return rows, [sheet(video, scene) for video, scene in zip(videos, scenes, strict=True)]


def truth(bench: DragBench, indices: range, scenes: list[DragScene]) -> torch.Tensor:
    """The true videos: the error of the object finder alone."""
    return torch.stack([scene.pixels for scene in scenes])


def autoencoder(bench: DragBench, indices: range, scenes: list[DragScene]) -> torch.Tensor:
    """The true videos through the base's autoencoder: the floor of all samples."""
    return reconstruct_clips(bench.pipe, truth(bench, indices, scenes))


def still(bench: DragBench, indices: range, scenes: list[DragScene]) -> torch.Tensor:
    """The first frame, over and over."""
    videos = truth(bench, indices, scenes)
    return videos[:, :1].expand_as(videos)


def none(bench: DragBench, indices: range, scenes: list[DragScene]) -> torch.Tensor:
    """The base, which has no condition on the drags."""
    options = bench.options(indices, scenes)
    return bench.pipe(first_frames(scenes), num_frames=bench.args.num_frames, **options).frames * 2 - 1


def warp(bench: DragBench, indices: range, scenes: list[DragScene]) -> torch.Tensor:
    """The first frame, warped along the dense flow of the drags."""
    return torch.stack([warp_along(scene.pixels[0], scene.tracks, bench.args.reach) for scene in scenes])


def moved(bench: DragBench, indices: range, scenes: list[DragScene]) -> torch.Tensor:
    """The first frame warped by the guessed flow, without a network: the conditioning images of `controlnet`."""
    return torch.stack([track_images(scene.tracks, scene.pixels[0]) for scene in scenes])


def coarse(bench: DragBench, indices: range, scenes: list[DragScene]) -> torch.Tensor:
    strength = {"flow_strength": bench.args.flow_strength}
    return follow(bench, indices, scenes, "coarse", FlowSampling.from_args(bench.args, **strength))


def guided(bench: DragBench, indices: range, scenes: list[DragScene]) -> torch.Tensor:
    return follow(bench, indices, scenes, "guided", FlowSampling.from_args(bench.args, flow_strength=None))


def controlnet(bench: DragBench, indices: range, scenes: list[DragScene]) -> torch.Tensor:
    out = bench.controlnet_pipe(
        first_frames(scenes),
        [scene.tracks for scene in scenes],
        controlnet_conditioning_scale=bench.args.conditioning_scale,
        **bench.options(indices, scenes),
    )
    return out.frames * 2 - 1


METHODS = {f.__name__: f for f in (truth, autoencoder, still, none, warp, moved, coarse, guided, controlnet)}


def follow(bench: DragBench, indices: range, scenes: list[DragScene], method: str, flow: FlowSampling) -> torch.Tensor:
    """By the joint model of video and flow."""
    args = bench.args
    out = bench.trajectory_pipe(
        first_frames(scenes),
        [scene.tracks for scene in scenes],
        method,
        **Steering.from_args(args).options(),
        interpolation=args.interpolation,
        reach=args.reach,
        **flow.options(),
        **bench.options(indices, scenes),
    )
    return out.frames * 2 - 1


def first_frames(scenes: Sequence[DragScene]) -> torch.Tensor:
    """Pixels (B, 3, H, W) in [-1, 1]."""
    return torch.stack([scene.pixels[0] for scene in scenes])


def warp_along(image: torch.Tensor, tracks: Tracks, reach: float | None = None) -> torch.Tensor:
    """Frames (F, 3, H, W) of an image (3, H, W) backward-warped along tracks."""
    frames = [image]
    for points in tracks.points[1:]:
        back = Tracks(torch.stack([points, tracks.points[0]]), tracks.width, tracks.height)
        frames.append(look_up(image[None], dense_flow(back, reach))[0])
    return torch.stack(frames)


def sheet(video: torch.Tensor, scene: DragScene) -> list[Image.Image]:
    """A column: the first, a middle and the last frame, with wanted (green) and obtained (red) paths up to it."""
    _, lost, obtained = obtained_paths(video, scene)
    obtained = hold(obtained, lost[:, list(scene.dragged)])
    frames, wanted = to_frames(video), torch.from_numpy(scene.points)
    ends = [1, len(frames) // 2 + 1, len(frames)]
    shown = [draw_paths(frames[end - 1], wanted[:end], obtained[:end], ENLARGED) for end in ends]
    return [contact_sheet(np.stack(shown), columns=len(shown))]
