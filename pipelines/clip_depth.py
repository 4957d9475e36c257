"""Depth of a short video, frame by frame: sampled, or estimated in one step."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from pipelines.one_step import estimate_condition
from pipelines.pipeline_stable_diffusion_joint import StableDiffusionJointPipeline
from utils.data.clip_frames import open_frames
from utils.depth import color_disparity, write_disparity
from utils.video import Video, to_frames, to_pixels, write_video

STATIC_CHANGE = 0.04  # of pixels in [-1, 1] from frame to frame: less counts as standing still
FEWEST_STATIC = 1 / 16  # share of the pixels; where fewer stand still, a frame is aligned by all of them


@torch.no_grad()
def sample_clip_depth(
    pipe: StableDiffusionJointPipeline,
    video: torch.Tensor,
    name: str = "depth",
    seed: int = 0,
    batch_size: int = 4,
    same_noise: bool = True,
    align: bool = True,
    prompt: str | None = None,
    **options,
) -> np.ndarray:
    """Normalised disparity of each frame of a video, float32 (F, H, W) in [-1, 1], nearest 1.

    A frame is given as an image, and its depth is sampled. The model sees no other frame: what keeps the depth steady
    is the noise, the same for all frames, and an alignment of each frame to the one before (`align_frames`).

    Args:
        pipe: With the joint adapter `name`, of depth.
        video: Frames (F, 3, H, W) in [-1, 1], of a size that the model takes (`pipelines.sizes.fit_video`).
        seed: Of the noise.
        batch_size: Frames that are sampled together.
        same_noise: False draws the noise of each frame anew.
        align: False leaves each frame normalised on its own.
        prompt: What is in the video.
        options: Further arguments of the pipeline, such as num_inference_steps.

    Raises:
        ValueError: The pipeline refuses the video, or has no such adapter.
    """
    parts = []
    for start, frames in zip(range(0, len(video), batch_size), video.split(batch_size), strict=True):
        seeds = [seed if same_noise else seed + start + k for k in range(len(frames))]
        generators = [torch.Generator().manual_seed(one) for one in seeds]  # of all noise, also of each step
        text = None if prompt is None else [prompt] * len(frames)
        out = pipe(text, image=frames, adapters=name, generator=generators, **options)
        parts.append(out.values[name])
    depth = np.concatenate(parts)
    return align_frames(depth, video) if align else depth


def estimate_clip_depth(
    pipe: StableDiffusionJointPipeline,
    video: torch.Tensor,
    name: str = "depth",
    batch_size: int = 4,
    on_frames: Callable[[int], None] | None = None,
) -> np.ndarray:
    """As `sample_clip_depth`, by one deterministic step for each frame (`estimate_condition`).

    Args:
        pipe: With the adapter `name`, of depth: a LoRA that estimates, or a joint one.
        on_frames: Called after each batch with the number of frames that are done.
    """
    parts = []
    for frames in pipe.progress_bar(video.split(batch_size)):
        parts.append(estimate_condition(pipe, frames, name).values[name])
        if on_frames is not None:
            on_frames(sum(map(len, parts)))
    return align_frames(np.concatenate(parts), video)


def align_frames(depth: np.ndarray, video: torch.Tensor) -> np.ndarray:
    """Depth (F, H, W) with mean and deviation of each frame brought to those of the aligned frame before.

    They are measured where the video (F, 3, H, W) stands still; where little does, over the whole frame.
    """
    aligned = [depth[0]]
    for frame, mask in zip(depth[1:], find_still(video), strict=True):
        where = mask if mask.mean() >= FEWEST_STATIC else np.ones_like(mask)
        due, found = aligned[-1][where], frame[where]
        scale = due.std() / max(found.std(), 1e-6)
        aligned.append(np.clip((frame - found.mean()) * scale + due.mean(), -1, 1))
    return np.stack(aligned).astype(np.float32)


def find_still(video: torch.Tensor) -> np.ndarray:
    """Where a video (F, 3, H, W) in [-1, 1] stands still from a frame to the next, bool (F - 1, H, W)."""
    return (video.diff(dim=0).abs().amax(dim=1) < STATIC_CHANGE).cpu().numpy()


def static_change(depth: np.ndarray, video: torch.Tensor) -> float | None:
    """Mean change of depth (F, H, W) in [-1, 1] from frame to frame where the video stands still, as a share of its
    range; None where nothing does."""
    still = find_still(video)
    return float(np.abs(np.diff(depth, axis=0))[still].mean()) / 2 if still.any() else None


def read_clip(path: str | Path) -> Video:
    """All frames of a video file, or of a folder of numbered frames.

    Raises:
        FileNotFoundError, ValueError: There is neither, or it cannot be read.
    """
    clip = open_frames(path, "--video")
    return Video(to_pixels(np.stack(list(clip.read(range(len(clip)))))), clip.fps)


def write_clip_depth(folder: str | Path, video: torch.Tensor, depth: np.ndarray, fps: float) -> list[Path]:
    """Write depth.mp4 in colours (red is near), side_by_side.mp4, and depth_000_16bit.png and on; returns the files."""
    folder = Path(folder)
    colors = np.stack([np.asarray(color_disparity(frame)) for frame in depth])
    files = [folder / "depth.mp4", folder / "side_by_side.mp4"]
    write_video(files[0], colors, fps)
    write_video(files[1], np.concatenate([to_frames(video), colors], axis=2), fps)
    for number, frame in enumerate(depth):
        files.append(folder / f"depth_{number:03}_16bit.png")
        write_disparity(files[-1], frame)
    return files
