"""What is measured of image to video: one function for each task, from indices to rows of numbers and pictures.

The i-th clip and the noise of its sample depend on i alone, not on the batch that it is computed in. A row holds

    features       of the video judge
    motion         mean length of the flow, pixels per frame
    object_motion  that of the objects against the background (`utils/metrics/object_motion.py`)
    shape_kept     how much of an object's outline stays what it is in the true clip (`utils/metrics/shape.py`); nan where no
                   object has a colour of its own
    color_drift    distance of an object's mean colour from its first one, levels of 0 to 255
    consistency    mean cosine of neighbouring frames in the attribute judge's embedding
    camera         what the video judge takes the camera's move for
"""

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.chunks import SHOWN, Chunk
from benchmarks.color_finder import find_masks
from benchmarks.svd_clips import TrueClips
from pipelines.pipeline_stable_video_diffusion import StableVideoDiffusionEDMPipeline
from utils.diffusion.sampling import VideoSampling
from utils.flow import flow_estimator
from utils.judges import load_judge
from utils.judges.video import CAMERAS
from utils.lora import load_lora
from utils.metrics.object_motion import object_motion
from utils.metrics.shape import color_drift, shape_kept
from utils.metrics.video import frame_consistency
from utils.motion_helper import FIXED_BUCKET, MotionBuckets, buckets_file, motion_scores
from utils.pretrained import loading
from utils.video import contact_sheet

OTHER_SEEDS = 500_000  # from the seeds of the clips to those of other ones
PARTS = ("unet", "vae", "image_encoder", "scheduler", "feature_extractor")
KINDS = ("*.json", "*.safetensors")
GAP = 8  # pixels between two clips of a picture


def motion_map(args) -> Path:
    """The file that holds the map of motion: of the last of --lora that has one, or else of the model."""
    source = next((path for path in reversed(args.lora) if buckets_file(path).is_file()), args.model_dir)
    return buckets_file(source)


def model_files(folder: str | Path) -> list[Path]:
    """What decides a pipeline's samples: weights and configurations of its parts; none if there is no such folder."""
    index = filter(Path.is_file, [Path(folder, "model_index.json")])
    return [*index, *(file for part in PARTS for kind in KINDS for file in Path(folder, part).glob(kind))]


class Bench:
    """Models and clips, each loaded when a task first needs it."""

    def __init__(self, args):
        self.args = args
        shared = (args.num_frames, args.resolution, args.camera)
        self.clips = TrueClips(args.cache_dir, args.first_seed, *shared)
        self.other_clips = TrueClips(args.cache_dir, args.first_seed + OTHER_SEEDS, *shared)

    @cached_property
    def pipe(self) -> StableVideoDiffusionEDMPipeline:
        with loading(self.args.model_dir):
            pipe = StableVideoDiffusionEDMPipeline.from_pretrained(
                self.args.model_dir, dtype=getattr(torch, self.args.dtype)
            )
        for index, path in enumerate(self.args.lora):
            load_lora(pipe.unet, path, f"lora_{index}")
        pipe.set_progress_bar_config(disable=True)
        return pipe.to(self.args.device)

    @cached_property
    def buckets(self) -> MotionBuckets:
        return MotionBuckets.load(motion_map(self.args))

    @cached_property
    def video_judge(self):
        return load_judge(f"{self.args.judges_dir}/video.safetensors", "video", self.args.device)

    @cached_property
    def attribute_judge(self):
        return load_judge(f"{self.args.judges_dir}/attributes.safetensors", "attributes", self.args.device)

    @cached_property
    def flow(self):
        """DIS at twice the size, which finds small motion better."""
        return flow_estimator("dis", inference_size=(2 * self.args.resolution,) * 2)

    def true_buckets(self, indices: range) -> torch.Tensor:
        """Buckets (B,) of the true clips, by the map of `motion_map`."""
        flow, buckets = flow_estimator(self.buckets.backend), self.buckets
        scores = motion_scores(flow, self.clips.videos(indices), self.args.fps, buckets.short_side, buckets.time_step)
        return buckets.ids(scores)

    def draw(self, scenes: list[int], buckets: torch.Tensor) -> torch.Tensor:
        """Samples (B, F, 3, H, W) in [-1, 1] from the first frames of clips; a clip has one noise, whatever its bucket."""
        first = torch.cat([self.clips.videos(range(i, i + 1))[:, 0] for i in scenes])
        out = self.pipe(
            first,
            num_frames=self.args.num_frames,
            **VideoSampling.from_args(self.args, motion_bucket_id=buckets).options(),
            generator=[torch.Generator().manual_seed(self.args.seed + i) for i in scenes],
            output_type="pt",
        )
        return out.frames.float().cpu() * 2 - 1

    @torch.no_grad()
    def measure(self, videos: torch.Tensor, clips: TrueClips, indices: Sequence[int]) -> list[dict]:
        """Rows of videos (B, F, 3, H, W) in [-1, 1] whose first frames are those of true clips."""
        objects = clips.objects(indices)
        # Eight bits, as a file would hold, for all kinds of clips alike.
        videos = videos.clamp(-1, 1).add(1).mul(127.5).round().div(127.5).sub(1)
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
    """Shape and colour of the objects that no other has the colour of, in a video (F, 3, H, W) from the first frame of a clip."""
    scene = clips.scene(index)
    counts = Counter(solid.color for solid in scene.objects)
    colors = [color for color, number in counts.items() if number == 1]
    if not colors:
        return {"shape_kept": float("nan"), "color_drift": float("nan")}
    masks, true_masks = (
        find_masks(frames, colors, scene.floor, scene.wall) for frames in (video, clips.videos([index])[0])
    )
    return {"shape_kept": shape_kept(masks, true_masks), "color_drift": color_drift(video, masks, true_masks)}


def truth(bench: Bench, indices: range) -> Chunk:
    """The true clips."""
    videos = bench.clips.videos(indices)
    return bench.measure(videos, bench.clips, indices), pictures(videos)


def other(bench: Bench, indices: range) -> Chunk:
    """True clips of other scenes."""
    videos = bench.other_clips.videos(indices)
    return bench.measure(videos, bench.other_clips, indices), pictures(videos)


def frozen(bench: Bench, indices: range) -> Chunk:
    """The first frame and nothing else."""
    videos = bench.clips.videos(indices)
    return bench.measure(videos[:, :1].expand_as(videos), bench.clips, indices), []


def autoencoder(bench: Bench, indices: range) -> Chunk:
    """The true clips through the model's autoencoder: what it costs alone."""
    videos = bench.clips.videos(indices)
    returned = reconstruct_clips(bench.pipe, videos)
    return bench.measure(returned, bench.clips, indices), pictures(videos, returned)


def samples(bench: Bench, indices: range) -> Chunk:
    """Samples from the first frames, with the buckets of the true clips."""
    buckets = bench.true_buckets(indices)
    return sampled(bench, indices, buckets)


def fixed(bench: Bench, indices: range) -> Chunk:
    """The same first frames and noise, all with the bucket that is told by default."""
    return sampled(bench, indices, torch.full((len(indices),), FIXED_BUCKET))


def buckets(bench: Bench, indices: range) -> Chunk:
    """Index i is bucket i % K of clip i // K, where K buckets are tried: the same first frame and noise at each."""
    tried = bench.args.buckets
    scenes = [i // len(tried) for i in indices]
    told = torch.tensor([tried[i % len(tried)] for i in indices])
    videos = bench.draw(scenes, told)
    rows = bench.measure(videos, bench.clips, scenes)
    places = [{"scene": scene, "bucket": bucket} for scene, bucket in zip(scenes, told.tolist(), strict=True)]
    return [row | place for row, place in zip(rows, places, strict=True)], pictures(videos)


def sampled(bench: Bench, indices: range, told: torch.Tensor) -> Chunk:
    videos = bench.draw(list(indices), told)
    rows = bench.measure(videos, bench.clips, indices)
    rows = [row | {"bucket": bucket} for row, bucket in zip(rows, told.tolist(), strict=True)]
    return rows, pictures(bench.clips.videos(indices), videos)


@torch.no_grad()
def reconstruct_clips(pipe: StableVideoDiffusionEDMPipeline, videos: torch.Tensor) -> torch.Tensor:
    """Clips (B, F, 3, H, W) in [-1, 1] encoded, and decoded as samples are; float32 on the CPU."""
    with pipe.upcast_vae():
        frames = videos.flatten(0, 1).to(pipe.vae.device, pipe.vae.dtype)
        latents = pipe.vae.encode(frames).latent_dist.mode() * pipe.vae.config.scaling_factor
    return pipe.decode(latents.unflatten(0, videos.shape[:2])).cpu()


def pictures(*kinds: torch.Tensor) -> list[list[Image.Image]]:
    """One column of the first clips, each of its kinds as a row of frames below the other."""
    column = []
    for versions in list(zip(*kinds, strict=True))[:SHOWN]:
        strips = [contact_sheet(video, columns=len(video)) for video in versions]
        column += [*strips, Image.fromarray(np.full((GAP, strips[0].width, 3), 255, np.uint8))]
    return [column]
