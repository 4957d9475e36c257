"""How much a clip moves, as the number that Stable Video Diffusion is conditioned on (`motion_bucket_id`, 0 to 255).

Score. Frames are resized to a shorter side of `short_side` pixels, those `time_step` seconds apart (as near as the
frame rate allows) are matched, and the score is the mean length of the flow, scaled to exactly `time_step`: pixels of
that size per time step. So it depends neither on the resolution nor, for steady motion, on the frame rate.

Map. bucket = clip(round(scale * score + offset), 0, 255), with scale and offset such that two percentiles of the scores
of a data set become 0 and 255 (`utils.data.fit_motion_buckets`). Stability AI has not published its own map; this is
another one. Its constants belong to the weights that were trained with them and lie beside those as
`motion_buckets.json`.
"""

import dataclasses
import json
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from unimatch import UniMatch
from utils.files import is_file, replacing
from utils.flow.estimate import FlowEstimator, check_video, match_frames
from utils.formats.text import read_json
from utils.images import resize_shorter

BUCKETS_FILE = "motion_buckets.json"
MAX_BUCKET = 255
FIXED_FPS, FIXED_BUCKET = 7, 127  # what Stable Video Diffusion's pipeline passes by default


@dataclasses.dataclass(frozen=True)
class MotionBuckets:
    """A map from scores to bucket ids, with what it was fitted to.

    Attributes:
        scale, offset: bucket = scale * score + offset.
        short_side: Pixels of the shorter side at which flow is estimated.
        time_step: Seconds between the matched frames.
        backend: Of `utils.flow.estimate_flow`, with its settings: another one gives other scores.
        percentiles: Those of the fitted scores that become 0 and 255.
        data: What it was fitted to.
        num_clips: Of that.
    """

    scale: float
    offset: float
    short_side: int = 128
    time_step: float = 0.125
    backend: str = "dis"
    percentiles: tuple[float, float] = (5.0, 95.0)
    data: str = ""
    num_clips: int = 0

    @classmethod
    def fit(cls, scores: torch.Tensor, percentiles: tuple[float, float] = (5.0, 95.0), **about) -> "MotionBuckets":
        """The map that brings two percentiles of scores (N,) to 0 and 255.

        Raises:
            ValueError: The percentiles are out of order, or the scores of the two are equal.
        """
        check_percentiles(percentiles)
        low, high = scores.double().quantile(torch.tensor(percentiles, dtype=torch.float64) / 100).tolist()
        if high - low < 1e-6:
            raise ValueError(f"All {len(scores)} clips move alike, by {low:.3g} px; a map needs clips that differ.")
        scale = MAX_BUCKET / (high - low)
        return cls(scale, -scale * low, percentiles=tuple(percentiles), num_clips=len(scores), **about)

    def ids(self, scores: torch.Tensor) -> torch.Tensor:
        """Bucket ids, int64 in 0 to 255, of scores of any shape."""
        return (self.scale * scores + self.offset).round().clamp(0, MAX_BUCKET).long()

    def save(self, path: str | Path) -> None:
        """Write `motion_buckets.json` into a folder of weights, or a file whose name ends in .json."""
        with replacing(buckets_file(path)) as temporary:
            temporary.write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> "MotionBuckets":
        """Read what `save` wrote, from the folder or the file.

        Raises:
            FileNotFoundError: There is none.
            ValueError: It holds something else.
        """
        path = buckets_file(path)
        if not is_file(path):
            raise FileNotFoundError(f"There is no {path}; fit one with python -m utils.data.fit_motion_buckets.")
        try:
            content = read_json(path)
            numbers = {name: float(content[name]) for name in ("scale", "offset", "time_step")}
            if not all(map(math.isfinite, numbers.values())):
                raise ValueError(f"{numbers} are not all finite")
            return cls(**{**content, **numbers, "percentiles": tuple(content["percentiles"])})
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise ValueError(f"{path} holds no motion buckets: {error}.") from error


def cal_motion_bucket_ids(
    flow_model: FlowEstimator | UniMatch,
    pixel_values: torch.Tensor,
    fps: float | torch.Tensor,
    buckets: MotionBuckets | None = None,
) -> torch.Tensor:
    """Bucket ids, int64 (B,) on the device of the clips.

    Args:
        flow_model: What `utils.flow.flow_estimator` returns, or a UniMatch network.
        pixel_values: Clips (B, F, 3, H, W) in [-1, 1], at least 2 frames.
        fps: Frames per second, one for all or (B,).
        buckets: The map; by default `PROCEDURAL`.

    Raises:
        ValueError: The clips have another shape or range, or fps is not positive.
    """
    buckets = buckets or PROCEDURAL
    scores = motion_scores(flow_model, pixel_values, fps, buckets.short_side, buckets.time_step)
    return buckets.ids(scores)


def fixed_motion_ids(pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same for every clip, whatever it shows: fps 7 and bucket 127, int64 (B,) each, on the device of the clips."""
    ids = torch.tensor([FIXED_FPS, FIXED_BUCKET], device=pixel_values.device)
    fps, buckets = ids.expand(len(pixel_values), 2).unbind(1)
    return fps, buckets


def motion_scores(
    flow_model: FlowEstimator | UniMatch,
    pixel_values: torch.Tensor,
    fps: float | torch.Tensor,
    short_side: int = 128,
    time_step: float = 0.125,
) -> torch.Tensor:
    """Scores, float32 (B,), in pixels per time step; see the module's text and `cal_motion_bucket_ids`."""
    if pixel_values.ndim != 5 or pixel_values.shape[1] < 2:
        raise ValueError(f"Clips have the shape (B, F, 3, H, W) with F at least 2, not {tuple(pixel_values.shape)}.")
    rates = torch.as_tensor(fps, dtype=torch.float32)
    if rates.numel() not in (1, len(pixel_values)):
        raise ValueError(f"fps is one for all or one for each of {len(pixel_values)} clips, not {rates.numel()}.")
    rates = rates.flatten().expand(len(pixel_values)).tolist()
    if min(rates) <= 0:
        raise ValueError(f"fps={min(rates)} has to be positive.")
    for clip in pixel_values:
        check_video(clip)
    estimate = partial(match_frames, flow_model) if isinstance(flow_model, UniMatch) else flow_model
    scores = [
        _score(estimate, clip, rate, short_side, time_step) for clip, rate in zip(pixel_values, rates, strict=True)
    ]
    return torch.stack(scores).to(pixel_values.device)


@torch.no_grad()
def _score(estimate: FlowEstimator, clip: torch.Tensor, fps: float, short_side: int, time_step: float) -> torch.Tensor:
    stride = max(1, min(round(fps * time_step), len(clip) - 1))
    length = estimate(resize_shorter(clip[::stride].float(), short_side)).norm(dim=1).mean()
    return length * (time_step * fps / stride)


def check_percentiles(percentiles: Sequence[float]) -> None:
    """Raise a ValueError unless two percentiles rise inside 0 to 100."""
    low, high = percentiles
    if not 0 <= low < high <= 100:
        raise ValueError(f"percentiles={tuple(percentiles)} have to rise, inside 0 to 100.")


def buckets_file(path: str | Path) -> Path:
    """The file in a folder of weights; a name that ends in .json is taken as it is."""
    path = Path(path)
    return path if path.suffix == ".json" else path / BUCKETS_FILE


# The percentiles' scores are 0.002 and 2.682 px.
PROCEDURAL = MotionBuckets(
    scale=95.15, offset=-0.169, data="the procedural world, seeds 0 to 207, 16 frames of 64x64 at 8 fps", num_clips=208
)
