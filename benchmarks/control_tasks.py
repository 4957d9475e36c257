"""The tasks of `benchmarks.eval_svd_controlnet`: videos with, without and with another scene's control.

A row holds, of a video beside the true clip

    control_error  distance of what the video shows from the control of its own scene
    given_error    that from the control that was given, in task `other` that of another scene
    shape_kept     how much of an object's outline stays what it is in the true clip (`utils/metrics/shape.py`)
    features       of the video judge

where the distance is

    depth          AbsRel of the depth judge's disparity after the best affine map (`utils/metrics/depth.py`)
    segmentation   1 - IoU of all objects, found by the colours of the scene, with the objects of the control
    flow           end-point error of DIS flow, pixels of a frame
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial

import numpy as np
import torch

from benchmarks.color_finder import find_masks
from benchmarks.protocol import Chunk
from benchmarks.svd_clips import PLANNED_FRAMES
from benchmarks.svd_tasks import measure_looks
from benchmarks.video_bench import VideoBench, clip_sheet, eight_bits, reconstruct_clips
from pipelines.pipeline_stable_video_diffusion_controlnet import StableVideoDiffusionControlNetPipeline
from utils.data.control import control_images
from utils.depth import metres_to_disparity
from utils.metrics.depth import depth_errors
from utils.scenes import render, sample_clip
from utils.scenes.labels import color_labels
from utils.scenes.video import clip_flow
from utils.video import to_pixels

MEASURED = ("depth", "segmentation", "flow")


@dataclass(frozen=True)
class Truth:
    """What is exact of a clip.

    Attributes:
        depth: float32 (F, H, W), metres.
        labels: int8 (F, H, W), as of `utils.scenes.render.Rendering`.
        flow: float32 (F - 1, 2, H, W), pixels; None unless it is asked for.
    """

    depth: np.ndarray
    labels: np.ndarray
    flow: np.ndarray | None

    def control(self, kind: str) -> torch.Tensor:
        """The control (F, 3, H, W) of a kind."""
        if kind == "depth":
            return control_images("depth", torch.from_numpy(metres_to_disparity(self.depth))[:, None]).float()
        if kind == "flow":
            return control_images("flow", torch.from_numpy(self.flow))
        return to_pixels(color_labels(self.labels))


@lru_cache(maxsize=64)
def truth_of(seed: int, num_frames: int, resolution: int, with_flow: bool) -> Truth:
    """Of the first frames of the clip of a seed, one ray a pixel."""
    clip = sample_clip(seed, max(num_frames, PLANNED_FRAMES))
    frames = [render(clip.at(t), resolution, samples=1) for t in range(num_frames)]
    flow = clip_flow(clip, resolution)[0][: num_frames - 1] if with_flow else None
    return Truth(np.stack([f.depth for f in frames]), np.stack([f.labels for f in frames]), flow)


class Bench(VideoBench):
    """Models and clips."""

    @cached_property
    def pipe(self) -> StableVideoDiffusionControlNetPipeline:
        """The base with --controlnet."""
        return self.load_controlled(StableVideoDiffusionControlNetPipeline)

    def truth(self, index: int) -> Truth:
        args = self.args
        return truth_of(args.first_seed + index, args.num_frames, args.resolution, args.control == "flow")

    def other(self, index: int) -> int:
        """The scene whose control a clip gets in task `other`: the next one, and of the last one the first."""
        return (index + 1) % self.args.num_clips

    def sample(self, indices: Sequence[int], scenes: Sequence[int] | None) -> torch.Tensor:
        """Videos (B, F, 3, H, W) from the first frames of clips; scenes: those of their controls, None for none."""
        true = self.clips.videos(indices)
        control = None if scenes is None else torch.stack([self.truth(i).control(self.args.control) for i in scenes])
        options = self.sampling(motion_bucket_id=self.true_buckets(true))
        options |= {"num_frames": self.args.num_frames, "generator": self.noise(indices), "output_type": "pt"}
        if control is not None:
            options["controlnet_conditioning_scale"] = self.args.controlnet_conditioning_scale
            options["guide_control"] = self.args.guide_control
        return self.pipe(true[:, 0], control=control, **options).frames.float().cpu() * 2 - 1

    @torch.no_grad()
    def rows(self, videos: torch.Tensor, indices: Sequence[int], scenes: Sequence[int]) -> list[dict]:
        """Rows of videos (B, F, 3, H, W) in [-1, 1]; scenes: those of the controls that they were given."""
        videos = eight_bits(videos)
        features = self.video_judge.features(videos.to(self.args.device))
        return [
            {
                "control_error": self.error(videos[b], index, index),
                "given_error": self.error(videos[b], index, scene),
                "shape_kept": measure_looks(videos[b], self.clips, index)["shape_kept"],
                "features": features[b].tolist(),
            }
            for b, (index, scene) in enumerate(zip(indices, scenes, strict=True))
        ]

    def error(self, video: torch.Tensor, index: int, scene: int) -> float:
        """Distance of a video (F, 3, H, W), from the first frame of clip `index`, from the control of clip `scene`."""
        truth = self.truth(scene)
        if self.args.control == "flow":
            return (self.flow(video) - torch.from_numpy(truth.flow)).norm(dim=1).mean().item()
        if self.args.control == "depth":
            disparity = self.depth_judge(video.to(self.args.device)).float().cpu().numpy()
            return float(np.mean([depth_errors(d, m).abs_rel for d, m in zip(disparity, truth.depth, strict=True)]))
        return mask_error(video, self.clips.scene(index), truth.labels)


def mask_error(video: torch.Tensor, scene, labels: np.ndarray) -> float:
    """1 - IoU of all objects of a video (F, 3, H, W), found by the colours of its scene, with labels (F, H, W)."""
    colors = list(dict.fromkeys(solid.color for solid in scene.objects))
    found = find_masks(video, colors, scene.floor, scene.wall).any(dim=1)
    due = torch.from_numpy(labels >= 0)
    union = (found | due).sum().item()
    return 1 - (found & due).sum().item() / union if union else float("nan")


def truth(bench: Bench, indices: range) -> Chunk:
    """The true clips: what the measure itself errs by."""
    videos = bench.clips.videos(indices)
    return bench.rows(videos, indices, indices), clip_sheet(videos)


def autoencoder(bench: Bench, indices: range) -> Chunk:
    """The true clips through the autoencoder."""
    videos = reconstruct_clips(bench.pipe, bench.clips.videos(indices))
    return bench.rows(videos, indices, indices), clip_sheet(videos)


def sampled(bench: Bench, indices: range, control: str) -> Chunk:
    """Samples with the control of the same scene ("own"), of another one ("other"), or without ("none")."""
    given = [bench.other(i) for i in indices] if control == "other" else list(indices)
    videos = bench.sample(indices, None if control == "none" else given)
    shown = torch.stack([bench.truth(i).control(bench.args.control) for i in given])
    return bench.rows(videos, indices, given), clip_sheet(bench.clips.videos(indices), shown, videos)


TASKS = {
    "truth": truth,
    "autoencoder": autoencoder,
    "without": partial(sampled, control="none"),
    "with": partial(sampled, control="own"),
    "other": partial(sampled, control="other"),
}
