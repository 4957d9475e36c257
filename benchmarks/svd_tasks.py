"""The tasks of `benchmarks.eval_svd`: functions from indices of clips to rows of figures and a sheet.

A row holds

    features       of the video judge
    motion         mean length of the flow, pixels per frame
    object_motion  that of the objects against the background (`utils/metrics/object_motion.py`)
    shape_kept     how much of an object's outline stays what it is in the true clip (`utils/metrics/shape.py`); nan
                   where no object has a colour of its own
    color_drift    distance of an object's mean colour from its first one, levels of 0 to 255
    consistency    mean cosine of neighbouring frames in the attribute judge's embedding
    camera         move of the camera, as the video judge classifies it
"""

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch

from benchmarks.color_finder import find_masks
from benchmarks.protocol import Chunk
from benchmarks.svd_clips import TrueClips
from benchmarks.video_bench import VideoBench, clip_sheet, eight_bits, reconstruct_clips
from pipelines.pipeline_stable_video_diffusion import StableVideoDiffusionEDMPipeline
from utils.judges.video import CAMERAS
from utils.metrics.object_motion import object_motion
from utils.metrics.shape import color_drift, shape_kept
from utils.metrics.video import frame_consistency
from utils.motion_helper import FIXED_BUCKET, MotionBuckets, buckets_file
from utils.scenes import Scene
from utils.weights.lora import load_lora

OTHER_SEEDS = 500_000  # from the seeds of the clips to those of other ones


def motion_map(args) -> Path:
    """The file of the map of motion buckets: of the last of --lora that has one, or else of the model."""
    source = next((path for path in reversed(args.lora) if buckets_file(path).is_file()), args.model_dir)
    return buckets_file(source)


class Bench(VideoBench):
    """Models and clips."""

    def __init__(self, args):
        super().__init__(args)
        shared = (args.num_frames, args.resolution, args.camera)
        self.clips = TrueClips(args.cache_dir, args.first_seed, *shared)
        self.other_clips = TrueClips(args.cache_dir, args.first_seed + OTHER_SEEDS, *shared)

    @cached_property
    def pipe(self):
        """The base with all of --lora."""
        pipe = self.load(StableVideoDiffusionEDMPipeline)
        for index, path in enumerate(self.args.lora):
            load_lora(pipe.unet, path, f"lora_{index}")
        return pipe.to(self.args.device)

    @cached_property
    def buckets(self) -> MotionBuckets:
        return MotionBuckets.load(motion_map(self.args))

    def sample(self, scenes: Sequence[int], buckets: torch.Tensor) -> torch.Tensor:
        """Videos (B, F, 3, H, W) in [-1, 1] from the first frames of clips; a clip has one noise for all buckets."""
        out = self.pipe(
            self.clips.videos(scenes)[:, 0],
            num_frames=self.args.num_frames,
            **self.sampling(motion_bucket_id=buckets),
            generator=self.noise(scenes),
            output_type="pt",
        )
        return out.frames.float().cpu() * 2 - 1

    @torch.no_grad()
    def measure(self, videos: torch.Tensor, clips: TrueClips, indices: Sequence[int]) -> list[dict]:
        """Rows of videos (B, F, 3, H, W) in [-1, 1] whose first frames are those of true clips."""
        objects = clips.objects(indices)
        videos = eight_bits(videos)
        shown = videos.to(self.args.device)
        features, camera = self.video_judge.features(shown), self.video_judge(shown)["camera"].argmax(1)
        flows = [self.flow(video) for video in videos]
        return [
            {
                "features": features[b].tolist(),
                "motion": flows[b].norm(dim=1).mean().item(),
                "object_motion": object_motion(flows[b], objects[b]),
                "consistency": frame_consistency(shown[b], self.attribute_judge.embed),
                "camera": CAMERAS[camera[b]],
                **measure_looks(videos[b], clips, index),
            }
            for b, index in enumerate(indices)
        ]


def measure_looks(video: torch.Tensor, clips: TrueClips, index: int) -> dict[str, float]:
    """Shape and colour of the objects of unique colour, in a video (F, 3, H, W) from the first frame of a clip."""
    scene = clips.scene(index)
    colors = own_colors(scene)
    if not colors:
        return {"shape_kept": float("nan"), "color_drift": float("nan")}
    masks, true_masks = (
        find_masks(frames, colors, scene.floor, scene.wall) for frames in (video, clips.videos([index])[0])
    )
    return {"shape_kept": shape_kept(masks, true_masks), "color_drift": color_drift(video, masks, true_masks)}


def own_colors(scene: Scene) -> list[str]:
    """Colours that one object of a scene alone has."""
    counts = Counter(solid.color for solid in scene.objects)
    return [color for color, number in counts.items() if number == 1]


def truth(bench: Bench, indices: range) -> Chunk:
    """The true clips."""
    videos = bench.clips.videos(indices)
    return bench.measure(videos, bench.clips, indices), clip_sheet(videos)


def other(bench: Bench, indices: range) -> Chunk:
    """True clips of other scenes."""
    videos = bench.other_clips.videos(indices)
    return bench.measure(videos, bench.other_clips, indices), clip_sheet(videos)


def frozen(bench: Bench, indices: range) -> Chunk:
    """The first frame and nothing else."""
    videos = bench.clips.videos(indices)
    return bench.measure(videos[:, :1].expand_as(videos), bench.clips, indices), []


def autoencoder(bench: Bench, indices: range) -> Chunk:
    """The true clips through the model's autoencoder: what it costs alone."""
    videos = bench.clips.videos(indices)
    returned = reconstruct_clips(bench.pipe, videos)
    return bench.measure(returned, bench.clips, indices), clip_sheet(videos, returned)


def samples(bench: Bench, indices: range) -> Chunk:
    """Samples from the first frames, with the motion buckets of the true clips."""
    return sampled(bench, indices, bench.true_buckets(bench.clips.videos(indices)))


def fixed(bench: Bench, indices: range) -> Chunk:
    """The same first frames and noise, all with the default motion bucket."""
    return sampled(bench, indices, torch.full((len(indices),), FIXED_BUCKET))


def buckets(bench: Bench, indices: range) -> Chunk:
    """Index i is bucket i % K of clip i // K, where K buckets are tried: the same first frame and noise at each."""
    tried = bench.args.buckets
    scenes = [i // len(tried) for i in indices]
    asked = torch.tensor([tried[i % len(tried)] for i in indices])
    videos = bench.sample(scenes, asked)
    rows = bench.measure(videos, bench.clips, scenes)
    places = [{"scene": scene, "bucket": bucket} for scene, bucket in zip(scenes, asked.tolist(), strict=True)]
    return [row | place for row, place in zip(rows, places, strict=True)], clip_sheet(videos)


def sampled(bench: Bench, indices: range, buckets: torch.Tensor) -> Chunk:
    videos = bench.sample(indices, buckets)
    rows = bench.measure(videos, bench.clips, indices)
    rows = [row | {"bucket": bucket} for row, bucket in zip(rows, buckets.tolist(), strict=True)]
    return rows, clip_sheet(bench.clips.videos(indices), videos)
