"""The methods of `benchmarks.eval_svd_trans`: from the first and the last frames of true clips to videos between them.

A row holds, of a video beside the true clip

    ends_error      largest distance of its first and its last frame from the given ones, levels of 0 to 255
    psnr            of its middle frame, dB, at most `HIGHEST_PSNR`
    perceptual      distance of its middle frame by the features of the attribute judge (`utils/metrics/perceptual.py`)
    position_error  mean distance of the objects' centroids from the true ones, over the frames between, pixels of an
                    image 256 wide; of an object that is lost the distance that it goes from the first to the last
                    frame; nan where no object has a colour of its own
    lost            share of these places in which an object is lost
    shape_kept      how much of an object's outline stays what it is in the true clip (`utils/metrics/shape.py`)
    features        of the video judge
    moves           whether anything does in the true clip
"""

from collections.abc import Callable, Sequence
from functools import cached_property

import torch

from benchmarks.color_finder import find_objects
from benchmarks.protocol import Chunk
from benchmarks.rife import rife
from benchmarks.svd_tasks import measure_looks, own_colors
from benchmarks.video_bench import VideoBench, clip_sheet, eight_bits, reconstruct_clips
from pipelines.pipeline_stable_video_diffusion_trans import StableVideoDiffusionTransPipeline
from utils.flow.interpolate import cross_fade, interpolate
from utils.metrics.images import psnr
from utils.metrics.perceptual import perceptual_distance
from utils.metrics.trajectory import WIDTH

HIGHEST_PSNR = 50.0  # of equal images it is infinite
LEVEL = 1 / 127.5  # of 256, of pixels in [-1, 1]

Method = Callable[["Bench", torch.Tensor, Sequence[int]], torch.Tensor]


class Bench(VideoBench):
    """Models and clips."""

    @cached_property
    def free_pipe(self) -> StableVideoDiffusionTransPipeline:
        """The base alone."""
        return self.load(StableVideoDiffusionTransPipeline).to(self.args.device)

    @cached_property
    def trained_pipe(self) -> StableVideoDiffusionTransPipeline:
        """The base with --adapter."""
        pipe = self.load(StableVideoDiffusionTransPipeline)
        pipe.load_adapter(self.args.adapter)
        return pipe.to(self.args.device)

    def sample(self, pipe: StableVideoDiffusionTransPipeline, ends: torch.Tensor, indices, **options) -> torch.Tensor:
        """Videos (B, F, 3, H, W) between ends (B, 2, 3, H, W)."""
        options |= {"num_frames": self.args.num_frames, "generator": self.noise(indices), "output_type": "pt"}
        out = pipe(ends[:, 0], ends[:, 1], **options, **self.sampling())
        return out.frames.float().cpu() * 2 - 1

    def rows(self, videos: torch.Tensor, indices: Sequence[int]) -> list[dict]:
        """Rows of videos (B, F, 3, H, W) in [-1, 1]."""
        true, videos = eight_bits(self.clips.videos(indices)), eight_bits(videos)
        middle = true.shape[1] // 2
        shown, truth = (video[:, middle].to(self.args.device) for video in (videos, true))
        distances = perceptual_distance(shown, truth, self.attribute_judge.trunk)
        features = self.video_judge.features(videos.to(self.args.device))
        return [
            {
                "ends_error": ((videos - true)[b, [0, -1]].abs().max() / LEVEL).round().item(),
                "psnr": min(psnr(videos[b, middle], true[b, middle]), HIGHEST_PSNR),
                "perceptual": distances[b].item(),
                **measure_places(videos[b], true[b], self.clips.scene(index)),
                "shape_kept": measure_looks(videos[b], self.clips, index)["shape_kept"],
                "features": features[b].tolist(),
                "moves": bool((true[b] != true[b, :1]).any()),
            }
            for b, index in enumerate(indices)
        ]


def measure_places(video: torch.Tensor, true: torch.Tensor, scene) -> dict[str, float]:
    """position_error and lost of a video (F, 3, H, W) beside the true one.

    Where the true clip hides an object nothing is counted.
    """
    colors = own_colors(scene)
    if not colors:
        return {"position_error": float("nan"), "lost": float("nan")}
    found, due = (find_objects(one, colors, scene.floor, scene.wall) for one in (video, true))
    counted = ~due.lost(due.areas[0])[1:-1]
    lost = found.lost(due.areas[0])[1:-1]
    gone = (due.places[-1] - due.places[0]).norm(dim=-1).nan_to_num()
    errors = torch.where(lost, gone, (found.places - due.places)[1:-1].norm(dim=-1))[counted]
    scale = WIDTH / video.shape[-1]
    return {"position_error": errors.mean().item() * scale, "lost": lost[counted].float().mean().item()}


def truth(bench: Bench, ends: torch.Tensor, indices: Sequence[int]) -> torch.Tensor:
    return bench.clips.videos(indices)


def autoencoder(bench: Bench, ends: torch.Tensor, indices: Sequence[int]) -> torch.Tensor:
    """The true clips through the autoencoder, with the given frames at the ends: what it costs alone."""
    videos = reconstruct_clips(bench.free_pipe, bench.clips.videos(indices))
    return torch.cat([ends[:, :1], videos[:, 1:-1], ends[:, 1:]], dim=1)


def crossfade(bench: Bench, ends: torch.Tensor, indices: Sequence[int]) -> torch.Tensor:
    return torch.stack([cross_fade(*pair, bench.args.num_frames) for pair in ends])


def flow(bench: Bench, ends: torch.Tensor, indices: Sequence[int]) -> torch.Tensor:
    """By DIS at twice the size."""
    return torch.stack([interpolate(*pair, bench.args.num_frames, bench.flow) for pair in ends])


def by_rife(bench: Bench, ends: torch.Tensor, indices: Sequence[int]) -> torch.Tensor:
    return torch.stack([rife(*pair, bench.args.num_frames) for pair in ends])


def training_free(bench: Bench, ends: torch.Tensor, indices: Sequence[int]) -> torch.Tensor:
    return bench.sample(bench.free_pipe, ends, indices, repeats=bench.args.repeats)


def trained(bench: Bench, ends: torch.Tensor, indices: Sequence[int]) -> torch.Tensor:
    return bench.sample(bench.trained_pipe, ends, indices)


METHODS: dict[str, Method] = {
    "truth": truth,
    "autoencoder": autoencoder,
    "cross_fade": crossfade,
    "flow": flow,
    "rife": by_rife,
    "training_free": training_free,
    "trained": trained,
}


def measure(bench: Bench, indices: range, method: Method) -> Chunk:
    true = bench.clips.videos(indices)
    videos = method(bench, true[:, [0, -1]], indices)
    kinds = (true,) if method is truth else (true, videos)
    return bench.rows(videos, indices), clip_sheet(*kinds)
