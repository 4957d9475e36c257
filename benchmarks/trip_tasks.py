"""The tasks of `benchmarks.eval_trip`: the true clips, and samples of each trained form from their first frames.

A row holds

    features              of the video judge
    consistency_4, _all   F-Consistency: mean cosine of neighbouring frames, of the first 4 and of all, in the embedding
                          of the attribute judge, 0 to 1
    clip_4, clip_all      the same in that of the CLIP image encoder of the trained base
    shape_kept            how much of an object's outline stays what it is in the true clip (`utils/metrics/shape.py`)
    first_frame_error     mean distance of the first frame from the image, levels of 0 to 255
    v_error               squared error of v on the frames after the first, mean over noise levels; not of true clips
"""

from collections.abc import Sequence
from functools import cached_property, lru_cache, partial
from pathlib import Path

import torch

from benchmarks.protocol import Chunk, Task
from benchmarks.svd_tasks import measure_looks
from benchmarks.video_bench import VideoBench, clip_sheet, eight_bits
from models.trip import FORMS
from models.trip_unet import TripDenoiser, TripUNet
from pipelines.pipeline_trip import StableVideoDiffusionTripPipeline
from utils.diffusion.edm import EDM
from utils.diffusion.sampling import VideoSampling
from utils.diffusion.svd_condition import ConditionEncoder
from utils.metrics.video import frame_consistency
from utils.motion_helper import MotionBuckets
from utils.pretrained import load_pipeline

FIRST_FRAMES = 4  # of the shorter F-Consistency
QUANTILES = (0.125, 0.375, 0.625, 0.875)  # of the noise levels of a training


class Bench(VideoBench):
    """The trained forms and the clips."""

    @lru_cache(maxsize=1)  # noqa: B019, an evaluation lives as long as the process
    def trained(self, run: str) -> StableVideoDiffusionTripPipeline:
        """The pipeline of a run."""
        folder = Path(self.args.runs_dir, run)
        pipe = load_pipeline(StableVideoDiffusionTripPipeline, folder, self.args.dtype, "--runs_dir")
        pipe.set_progress_bar_config(disable=True)
        return pipe.to(self.args.device)

    @cached_property
    def buckets(self) -> MotionBuckets:
        """The map of motion buckets of the first run, which all have from the base."""
        return MotionBuckets.load(Path(self.args.runs_dir, find_runs(self.args.runs_dir)[0]))

    @torch.no_grad()
    def measure(self, videos: torch.Tensor, indices: Sequence[int], encoder: ConditionEncoder) -> list[dict]:
        """Rows of videos (B, F, 3, H, W) in [-1, 1] that begin with the first frames of clips."""
        videos, image = eight_bits(videos), eight_bits(self.clips.videos(indices)[:, 0])
        shown = videos.to(self.args.device)
        features = self.video_judge.features(shown)
        errors = (videos[:, 0] - image).abs().flatten(1).mean(dim=1) * 127.5
        rows = []
        for b, index in enumerate(indices):
            row = {"features": features[b].tolist(), "first_frame_error": errors[b].item()}
            row["shape_kept"] = measure_looks(videos[b], self.clips, index)["shape_kept"]
            embedders = {"consistency": self.attribute_judge.embed, "clip": lambda x: encoder.embed(x)[:, 0]}
            for name, embed in embedders.items():
                for frames, which in ((FIRST_FRAMES, "4"), (None, "all")):
                    row[f"{name}_{which}"] = frame_consistency(shown[b], embed, frames)
            rows.append(row)
        return rows


def find_runs(runs_dir: str | Path) -> list[str]:
    """Names FORM-SEED of the folders of a comparison, by form and seed."""
    names = [path.parent.name for path in Path(runs_dir).glob("*-*/model_index.json")]
    known = [name for name in names if name.rpartition("-")[0] in FORMS and name.rpartition("-")[2].isdigit()]
    return sorted(known, key=lambda name: (list(FORMS).index(form_of(name)), int(name.rpartition("-")[2])))


def form_of(run: str) -> str:
    return run.rpartition("-")[0]


def make_tasks(runs_dir: str | Path) -> dict[str, Task]:
    """The true clips, and the samples of each run."""
    runs = find_runs(runs_dir)
    return {"truth": partial(truth, run=runs[0] if runs else ""), **{run: partial(samples, run=run) for run in runs}}


def truth(bench: Bench, indices: range, run: str) -> Chunk:
    """The true clips; run: whose image encoder embeds them."""
    videos = bench.clips.videos(indices)
    return bench.measure(videos, indices, encoder_of(bench.trained(run))), clip_sheet(videos)


def samples(bench: Bench, indices: range, run: str) -> Chunk:
    """Samples of a run from the first frames, with the motion buckets of the true clips."""
    pipe, true = bench.trained(run), bench.clips.videos(indices)
    asked = bench.true_buckets(true)
    options = bench.sampling(motion_bucket_id=asked)
    noise = bench.noise(indices)
    out = pipe(true[:, 0], num_frames=true.shape[1], generator=noise, output_type="pt", **options)
    videos = out.frames.float().cpu() * 2 - 1
    rows = bench.measure(videos, indices, encoder_of(pipe))
    errors = [error_of_v(pipe, clip, bucket, bench.args) for clip, bucket in zip(true, asked, strict=True)]
    rows = [row | {"v_error": error} for row, error in zip(rows, errors, strict=True)]
    return rows, clip_sheet(true, videos)


@torch.no_grad()
def error_of_v(pipe: StableVideoDiffusionTripPipeline, clip: torch.Tensor, bucket: torch.Tensor, args) -> float:
    """Squared error of v on the frames after the first of a clip (F, 3, H, W), with the same noise for all runs."""
    generator, edm = torch.Generator().manual_seed(args.seed), EDM()
    image = clip[:1].to(pipe.device)
    aug = torch.randn(image.shape, generator=generator).to(image)
    sampling = VideoSampling(fps=args.fps, motion_bucket_id=bucket.item())
    condition = pipe.encode_condition(image, len(clip), sampling, aug)
    x_0 = pipe.encode_frames(clip[None].to(image))
    denoiser = TripDenoiser(TripUNet(pipe.unet, pipe.fusion), edm)
    errors = []
    for sigma in (edm.sigma_mean + edm.sigma_std * torch.special.ndtri(torch.tensor(QUANTILES))).exp():
        noise = torch.randn(x_0.shape, generator=generator).to(x_0)
        level = sigma[None].to(noise)
        v = denoiser.predict(edm.add_noise(x_0, noise, level), level, condition)
        errors.append((v - edm.velocity(x_0, noise, level))[:, 1:].square().mean().item())
    return sum(errors) / len(errors)


def encoder_of(pipe: StableVideoDiffusionTripPipeline) -> ConditionEncoder:
    return ConditionEncoder(pipe.vae, pipe.image_encoder, pipe.feature_extractor)
