"""Ways to make a video that follows dragged points: one function for each, from indices of scenes to videos (B, F, 3, H, W) in [-1, 1].

All that sample take the same noise for a scene, the motion bucket of its true video, and a pipeline that is loaded when first needed.
"""

from functools import cached_property

import numpy as np
import torch

from benchmarks.chunks import Chunk
from benchmarks.drag_scenes import DragScene, DragScenes
from benchmarks.svd_tasks import Bench, reconstruct_clips
from benchmarks.trajectory_score import hold, obtained_paths, score
from pipelines.pipeline_stable_video_diffusion import StableVideoDiffusionEDMPipeline
from utils.diffusion.sampling import FlowSampling, VideoSampling
from utils.flow import flow_estimator
from utils.flow.warp import warp as look_up
from utils.motion_helper import MotionBuckets, motion_scores
from utils.pretrained import loading
from utils.tracks import Tracks, dense_flow
from utils.tracks.drawing import draw_paths
from utils.video import contact_sheet, to_frames

ENLARGED = 3  # times, frames of the pictures


class DragBench(Bench):
    """Models and scenes, each loaded when a method first needs it."""

    def __init__(self, args):
        self.args = args
        self.scenes = DragScenes(args.cache_dir, args.first_seed, args.num_frames, args.resolution)

    @cached_property
    def buckets(self) -> MotionBuckets:
        return MotionBuckets.load(self.args.model_dir)

    @cached_property
    def pipe(self) -> StableVideoDiffusionEDMPipeline:
        return self._load(StableVideoDiffusionEDMPipeline).to(self.args.device)

    @cached_property
    def trajectory_pipe(self):
        from pipelines.pipeline_trajectory import StableVideoDiffusionTrajectoryPipeline

        pipe = self._load(StableVideoDiffusionTrajectoryPipeline)
        pipe.load_flow_adapter(self.args.adapter)
        for network in (pipe.unet, pipe.vae):
            network.requires_grad_(False)  # a gradient by latents needs none by weights
        return pipe.to(self.args.device)

    @cached_property
    def controlnet_pipe(self):
        from pipelines.pipeline_stable_video_diffusion_controlnet import StableVideoDiffusionControlNetPipeline

        pipe = self._load(StableVideoDiffusionControlNetPipeline)
        pipe.load_controlnet(self.args.controlnet)
        return pipe.to(self.args.device)

    def _load(self, kind: type):
        with loading(self.args.model_dir):
            pipe = kind.from_pretrained(self.args.model_dir, dtype=getattr(torch, self.args.dtype))
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def options(self, indices: range, scenes: list[DragScene]) -> dict:
        """Arguments of a pipeline's call."""
        return {
            "generator": [torch.Generator().manual_seed(self.args.seed + i) for i in indices],
            "output_type": "pt",
            **VideoSampling.from_args(self.args, motion_bucket_id=self.told_buckets(scenes)).options(),
        }

    def told_buckets(self, scenes: list[DragScene]) -> torch.Tensor:
        """Buckets (B,) of the true videos."""
        flow, settings = flow_estimator(self.buckets.backend), (self.buckets.short_side, self.buckets.time_step)
        videos = torch.stack([scene.pixels for scene in scenes])
        return self.buckets.ids(motion_scores(flow, videos, self.args.fps, *settings))

    def measure(self, method: str, indices: range) -> Chunk:
        """Rows and pictures of a method's videos of some scenes."""
        scenes = [self.scenes.scene(i) for i in indices]
        videos = METHODS[method](self, indices, scenes).float().cpu()
        videos = videos.clamp(-1, 1).add(1).mul(127.5).round().div(127.5).sub(1)  # eight bits, as a file would hold
        with torch.no_grad():
            features = self.video_judge.features(videos.to(self.args.device)).tolist()
        rows = [
            score(video, scene) | {"features": feature, "motion": self.flow(video).norm(dim=1).mean().item()}
            for video, scene, feature in zip(videos, scenes, features, strict=True)
        ]
        return rows, [draw(video, scene) for video, scene in zip(videos, scenes, strict=True)]


def truth(bench: DragBench, indices: range, scenes: list[DragScene]) -> torch.Tensor:
    """The true videos of what is wanted: the error is the finder's own."""
    return torch.stack([scene.pixels for scene in scenes])


def autoencoder(bench: DragBench, indices: range, scenes: list[DragScene]) -> torch.Tensor:
    """The true videos through the base's autoencoder: the floor of all that sample."""
    return reconstruct_clips(bench.pipe, truth(bench, indices, scenes))


def still(bench: DragBench, indices: range, scenes: list[DragScene]) -> torch.Tensor:
    """The first picture, over and over."""
    videos = truth(bench, indices, scenes)
    return videos[:, :1].expand_as(videos)


def none(bench: DragBench, indices: range, scenes: list[DragScene]) -> torch.Tensor:
    """The base, which is told nothing of the drags."""
    images = torch.stack([scene.pixels[0] for scene in scenes])
    return bench.pipe(images, num_frames=bench.args.num_frames, **bench.options(indices, scenes)).frames * 2 - 1


def warp(bench: DragBench, indices: range, scenes: list[DragScene]) -> torch.Tensor:
    """The first picture, warped along the dense flow."""
    return torch.stack([warp_along(scene.pixels[0], scene.tracks, bench.args.reach) for scene in scenes])


def moved(bench: DragBench, indices: range, scenes: list[DragScene]) -> torch.Tensor:
    """The pictures that the base is told by `controlnet`, as they are."""
    from utils.tracks.guess import track_pictures

    return torch.stack([track_pictures(scene.tracks, scene.pixels[0]) for scene in scenes])


def coarse(bench: DragBench, indices: range, scenes: list[DragScene]) -> torch.Tensor:
    return follow(bench, indices, scenes, "coarse")


def guided(bench: DragBench, indices: range, scenes: list[DragScene]) -> torch.Tensor:
    return follow(bench, indices, scenes, "guided")


def controlnet(bench: DragBench, indices: range, scenes: list[DragScene]) -> torch.Tensor:
    from utils.tracks.control_map import track_control
    from utils.tracks.guess import track_pictures

    images = torch.stack([scene.pixels[0] for scene in scenes])
    out = bench.controlnet_pipe(
        images,
        control=torch.stack([track_control(scene.tracks) for scene in scenes]),
        image_frames=torch.stack([track_pictures(scene.tracks, scene.pixels[0]) for scene in scenes]),
        conditioning_scale=bench.args.conditioning_scale,
        num_frames=bench.args.num_frames,
        **bench.options(indices, scenes),
    )
    return out.frames * 2 - 1


METHODS = {f.__name__: f for f in (truth, autoencoder, still, none, warp, moved, coarse, guided, controlnet)}


def follow(bench: DragBench, indices: range, scenes: list[DragScene], method: str) -> torch.Tensor:
    """By the joint model of video and flow."""
    from pipelines.steering import Guidance

    args = bench.args
    out = bench.trajectory_pipe(
        torch.stack([scene.pixels[0] for scene in scenes]),
        [scene.tracks for scene in scenes],
        method,
        guidance=Guidance(args.guidance, args.guidance_strength, args.guidance_steps, args.guidance_iterations),
        interpolation=args.interpolation,
        reach=args.reach,
        **FlowSampling.from_args(args, flow_strength=args.flow_strength if method == "coarse" else None).options(),
        **bench.options(indices, scenes),
    )
    return out.frames * 2 - 1


def warp_along(image: torch.Tensor, tracks: Tracks, reach: float | None = None) -> torch.Tensor:
    """Frames (F, 3, H, W) of a picture (3, H, W) that is moved: each looks up where its pixels were in the first."""
    frames = [image]
    for points in tracks.points[1:]:
        back = Tracks(torch.stack([points, tracks.points[0]]), tracks.width, tracks.height)
        frames.append(look_up(image[None], dense_flow(back, reach))[0])
    return torch.stack(frames)


def draw(video: torch.Tensor, scene: DragScene):
    """A column: the first, a middle and the last frame, with wanted (green) and obtained (red) paths up to it."""
    _, lost, obtained = obtained_paths(video, scene)
    obtained = hold(obtained, lost[:, list(scene.dragged)])
    frames, wanted = to_frames(video), torch.from_numpy(scene.points)
    ends = [1, len(frames) // 2 + 1, len(frames)]
    shown = [draw_paths(frames[end - 1], wanted[:end], obtained[:end], ENLARGED) for end in ends]
    return [contact_sheet(np.stack(shown), columns=len(shown))]
