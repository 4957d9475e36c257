"""The tasks of `benchmarks.eval_long_video`: functions from indices of clips to rows of figures and a sheet.

A row holds, with `jump` (order 1) and `flicker` (order 2) of the change between frames,

    consistency             mean cosine of neighbouring frames in the attribute judge's embedding
    color_k, …              drift of segment k, from `utils/metrics/drift.py`
    jump_across, …          mean change where a segment begins
    jump_elsewhere, …       mean change at all other frames
"""

from collections.abc import Callable, Sequence
from functools import cached_property, partial

import numpy as np
import torch
from PIL import Image

from benchmarks.protocol import Chunk
from benchmarks.video_bench import VideoBench, read_config
from pipelines.long_video import WAYS, LongVideo, count_overlap, sample_long_video, segment_starts
from utils.flow import estimate_flow
from utils.judges import load_judge
from utils.metrics.drift import color_drift, content_drift, motion_drift, seam_change
from utils.metrics.video import frame_consistency
from utils.scenes import render_clip, sample_clip
from utils.video import to_frames, to_pixels

SEAMS = {"jump": 1, "flicker": 2}  # order of the change
SHOWN = 6


def plan_segments(args) -> tuple[int, tuple[int, ...]]:
    """How many frames segments of `overlap` share, and where they begin.

    Raises:
        ValueError: There is one segment, or the numbers of frames do not fit together.
    """
    num_frames = read_config(args.model_dir, "unet")["num_frames"]
    overlap = count_overlap("overlap", args.overlap_frames, num_frames)
    starts = segment_starts(args.total_frames, num_frames, overlap)
    if len(starts) < 2:
        raise ValueError(f"--total_frames {args.total_frames} is one segment: take more than {num_frames}.")
    return overlap, starts


class LongBench(VideoBench):
    """Makes videos with the starts of their segments, and measures them."""

    def __init__(self, args):
        super().__init__(args)
        self.overlap, self.starts = plan_segments(args)

    @cached_property
    def attribute_judge(self):
        """On the CPU, where the videos are."""
        return load_judge(f"{self.args.judges_dir}/attributes.safetensors", "attributes")

    def truth(self, seeds: Sequence[int]) -> LongVideo:
        clips = [sample_clip(seed, self.args.total_frames) for seed in seeds]
        pixels = torch.stack([to_pixels(render_clip(clip, self.args.resolution).video) for clip in clips])
        return LongVideo(pixels, self.starts)

    def sample(self, way: str, seeds: Sequence[int]) -> LongVideo:
        args = self.args
        firsts = [render_clip(sample_clip(seed, 2), args.resolution).video[0] for seed in seeds]
        return sample_long_video(
            self.pipe,
            to_pixels(np.stack(firsts)),
            args.total_frames,
            way,
            args.overlap_frames if way == "overlap" else None,
            generator=self.noise(seeds),
            **self.sampling(),
        )

    @torch.no_grad()
    def measure(self, make: Callable[[Sequence[int]], LongVideo], indices: range) -> Chunk:
        """Rows of figures, and a sheet of the first videos."""
        made = make([self.args.first_seed + index for index in indices])
        # Eight bits, as a file would hold, for all videos alike.
        rows = [self.figures(to_pixels(to_frames(video)), made.starts) for video in made.pixels]
        shown = [marked(video, made.starts) for video in made.pixels[:SHOWN]]
        return rows, [list(column) for column in zip(*shown, strict=True)]

    def figures(self, video: torch.Tensor, starts: tuple[int, ...]) -> dict:
        """Drift over the segments of `overlap`, and seams at the video's own starts with an equal window."""
        embed = self.attribute_judge.embed
        row = {"consistency": frame_consistency(video, embed)}
        for name, order in SEAMS.items():
            row[f"{name}_across"], row[f"{name}_elsewhere"] = seam_change(video, starts, self.overlap, order)
        drifts = {
            "color": color_drift(video, self.starts),
            "content": content_drift(video, self.starts, embed),
            "motion": motion_drift(estimate_flow(video), self.starts),
        }
        return row | {f"{name}_{k + 1}": value for name, values in drifts.items() for k, value in enumerate(values)}


def truth(bench: LongBench, indices: range) -> Chunk:
    """The procedural clip of the same first frame."""
    return bench.measure(bench.truth, indices)


def sampled(bench: LongBench, indices: range, way: str) -> Chunk:
    """Videos of one way to go on from segment to segment."""
    return bench.measure(partial(bench.sample, way), indices)


TASKS = {"truth": truth} | {way: partial(sampled, way=way) for way in WAYS}


def marked(video: torch.Tensor, starts: tuple[int, ...]) -> list[Image.Image]:
    """Frames as images, with a red line on top of those that begin a segment."""
    frames = to_frames(video).copy()
    frames[list(starts), :2] = (255, 0, 0)
    return [Image.fromarray(frame) for frame in frames]
