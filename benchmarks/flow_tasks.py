"""The tasks of `benchmarks.eval_flow`: functions to rows of its table."""

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

import unimatch
from benchmarks.seeded_unimatch import make_model
from utils.flow import FlowEncoding, flow_estimator
from utils.flow.estimate import FlowEstimator
from utils.latents import reconstruct
from utils.metrics.flow import end_point_error, outliers
from utils.scenes import ClipRendering, render_clip, sample_clip
from utils.video import to_pixels

ENCODINGS = {"square root": FlowEncoding(max_flow=16, power=0.5), "linear": FlowEncoding(max_flow=16, power=1.0)}


@dataclass(frozen=True)
class Row:
    """Mean and worst end-point error in pixels, share of outliers, and seconds for a pair of frames."""

    task: str
    method: str
    mean: float
    worst: float
    outliers: float
    seconds: float | None = None

    @property
    def figures(self) -> dict[str, float]:
        """Figures of the row by name, as `results.json` holds them."""
        found = {"epe": self.mean, "worst": self.worst, "outliers": self.outliers}
        return found if self.seconds is None else found | {"seconds": self.seconds}


def compare(task: str, method: str, estimate: torch.Tensor, truth: torch.Tensor, mask=None, seconds=None) -> Row:
    """A row for flows (…, 2, H, W) over known truth, and over `mask` if given."""
    known = truth.isfinite().all(-3) if mask is None else truth.isfinite().all(-3) & mask
    worst = (estimate - truth).norm(dim=-3)[known].max().item()
    mean, share = end_point_error(estimate, truth, mask), outliers(estimate, truth, mask)
    return Row(task, method, mean, worst, share, seconds)


def photographs(video: torch.Tensor, truth: torch.Tensor, estimators: dict[str, dict]) -> tuple[list[Row], list]:
    """Backends on two photographs (2, 3, H, W) with known flow (2, H, W); the rows, and the flow of each backend."""
    rows, flows = [compare("photographs", "no motion", torch.zeros_like(truth), truth)], []
    for method, options in estimators.items():
        flow, seconds = timed(flow_estimator(**options), video, repeats=5)
        rows.append(compare("photographs", method, flow[0], truth, seconds=seconds))
        flows.append(flow[0])
    return rows, flows


def render_clips(seeds: range, num_frames: int, resolution: int) -> list[ClipRendering]:
    """Clips of the procedural world with their truth."""
    return [render_clip(sample_clip(seed, num_frames), resolution, num_tracks=0) for seed in tqdm(seeds, desc="clips")]


def procedural(
    clips: list[ClipRendering], estimators: dict[str, dict]
) -> tuple[list[Row], dict[str, list[torch.Tensor]]]:
    """Backends on clips, over all and over visible pixels: the rows, and by backend the flow of each clip."""
    truth, seen, moving = (torch.from_numpy(values) for values in truths(clips))
    rows = [compare("procedural", "no motion", torch.zeros_like(truth), truth)]
    flows = {}
    for method, options in estimators.items():
        estimate = flow_estimator(**options)
        timings = [timed(estimate, to_pixels(clip.video)) for clip in clips]
        flow, seconds = torch.cat([f for f, _ in timings]), np.mean([s for _, s in timings])
        rows.append(compare("procedural", method, flow, truth, seconds=float(seconds)))
        rows.append(compare("procedural", f"{method}, where visible", flow, truth, seen))
        rows.append(compare("procedural", f"{method}, moving and visible", flow, truth, seen & moving))
        flows[method] = [f for f, _ in timings]
    return rows, flows


def truths(clips: list[ClipRendering]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flow (N, 2, H, W), where it ends visibly (N, H, W), and where it is longer than half a pixel."""
    flow = np.concatenate([clip.flow for clip in clips])
    return flow, ~np.concatenate([clip.occluded for clip in clips]), np.linalg.norm(flow, axis=1) > 0.5


def published(folder: Path) -> Iterator[Row]:
    """Our UniMatch against the flow that the published code gave with the same weights."""
    golden = np.load(folder / "golden.npz")
    images = [torch.from_numpy(golden[name]).permute(2, 0, 1)[None] for name in ("img0", "img1")]
    for name in sorted(set(golden) & set(unimatch.CONFIGURATIONS)):
        model = make_model(name)
        start = time.perf_counter()
        flow = unimatch.estimate_flow(model, *images)
        yield compare(
            "published UniMatch", name, flow, torch.from_numpy(golden[name]), None, time.perf_counter() - start
        )


def flow_images(flow: torch.Tensor, vae: nn.Module) -> tuple[list[Row], dict[str, torch.Tensor]]:
    """Flow (N, 2, H, W) as images and back, in float32, 8 bits, and an autoencoder: the rows, and the latter's flow."""
    rows, returned = [], {}
    for name, encoding in ENCODINGS.items():
        encoded = encoding.encode(flow)
        bits = encoded.add(1).mul(127.5).round().div(127.5).sub(1)
        parts = [reconstruct(vae, part) for part in tqdm(encoded.split(32), desc="autoencoder")]
        returned[name] = encoding.decode(torch.cat(parts))
        for way, values in (("float32", encoded), ("8 bits", bits), ("autoencoder", torch.cat(parts))):
            rows.append(compare("flow image", f"{name}, {way}", encoding.decode(values), flow))
    return rows, returned


def timed(estimate: FlowEstimator, video: torch.Tensor, repeats: int = 1) -> tuple[torch.Tensor, float]:
    """Flow of a video, and the median of the seconds for a pair of its frames."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        flow = estimate(video)
        times.append(time.perf_counter() - start)
    return flow, statistics.median(times) / len(flow)
