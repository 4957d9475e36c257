"""What is measured of flow with its video: one function for each task, from indices to rows of numbers and pictures.

The i-th clip and the noise of its sample depend on i alone, not on the batch that it is computed in. A row holds

    epe            mean distance of the flow from the one that DIS finds in the video it belongs to, pixels per frame
    motion         mean length of that flow of the video
    flow_motion    mean length of the flow
    warping_error  of the video along DIS's flow, mean squared difference of pixels in [0, 1]
    epe_true       mean distance of the flow from the exact flow of the true clip
    true_motion    mean length of DIS's flow of the true clip
    exact_motion   mean length of its exact flow
"""

from functools import cached_property, lru_cache

import numpy as np
import torch
from tqdm.auto import tqdm

from benchmarks.chunks import Chunk
from benchmarks.svd_clips import AT_ONCE, PLANNED_FRAMES, TrueClips
from benchmarks.svd_tasks import OTHER_SEEDS, Bench, pictures, reconstruct_clips
from pipelines.pipeline_stable_video_diffusion import StableVideoDiffusionEDMPipeline
from pipelines.pipeline_stable_video_diffusion_joint import StableVideoDiffusionJointPipeline
from utils.diffusion.sampling import VideoSampling
from utils.files import replacing
from utils.flow.code import FlowCode
from utils.lora import load_lora, read_training
from utils.metrics.flow import warping_error
from utils.motion_helper import MotionBuckets
from utils.pretrained import loading
from utils.scenes import sample_clip
from utils.scenes.motion import Clip
from utils.scenes.video import clip_flow
from utils.training.flow_validation import SLOWEST, flow_row


class TrueFlowClips(TrueClips):
    """`TrueClips` with their exact flow, in files of its own beside the frames."""

    def flows(self, indices: range) -> torch.Tensor:
        """Pixels (B, F - 1, 2, H, W), x then y."""
        return torch.stack([torch.from_numpy(self._flows(i // AT_ONCE)[i % AT_ONCE]) for i in indices]).float()

    @lru_cache(maxsize=4)  # noqa: B019, an evaluation lives as long as the process
    def _flows(self, number: int) -> np.ndarray:
        path = self.folder / f"flow-{number * AT_ONCE:06d}.npz"
        if not path.is_file():
            first = self.first_seed + number * AT_ONCE
            seeds = tqdm(range(first, first + AT_ONCE), desc="flow", leave=False)
            flows = np.stack([self._exact(seed) for seed in seeds])
            with replacing(path) as temporary:
                np.savez_compressed(temporary, flows=flows)
        with np.load(path) as arrays:
            return arrays["flows"]

    def _exact(self, seed: int) -> np.ndarray:
        clip = sample_clip(seed, max(self.num_frames, PLANNED_FRAMES), camera=self.camera)
        stretch = Clip(clip.scene, clip.motions, clip.camera_motion, self.num_frames)
        return clip_flow(stretch, self.resolution)[0]


class FlowBench(Bench):
    """Models and clips, each loaded when a task first needs it."""

    def __init__(self, args):
        self.args = args
        shared = (args.num_frames, args.resolution)
        self.clips = TrueFlowClips(args.cache_dir, args.first_seed, *shared)
        self.other_clips = TrueFlowClips(args.cache_dir, args.first_seed + OTHER_SEEDS, *shared)

    @cached_property
    def buckets(self) -> MotionBuckets:
        return MotionBuckets.load(self.args.model_dir)

    @cached_property
    def pipe(self) -> StableVideoDiffusionJointPipeline:
        pipe = self._load(StableVideoDiffusionJointPipeline)
        pipe.load_flow_adapter(self.args.adapter)
        return pipe.to(self.args.device)

    @cached_property
    def flow_pipe(self) -> StableVideoDiffusionEDMPipeline:
        pipe = self._load(StableVideoDiffusionEDMPipeline)
        load_lora(pipe.unet, self.args.flow_lora)
        return pipe.to(self.args.device)

    @cached_property
    def flow_code(self) -> FlowCode:
        """How the LoRA's flow is encoded."""
        return FlowCode.from_training(read_training(self.args.flow_lora))

    def _load(self, kind: type):
        with loading(self.args.model_dir):
            pipe = kind.from_pretrained(self.args.model_dir, dtype=getattr(torch, self.args.dtype))
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def options(self, scenes: list[int], **changed) -> dict:
        """Arguments of a pipeline's call for the first frames of clips; a clip has one noise, whatever the task."""
        told = [self.true_buckets(range(i, i + 1)) for i in scenes]
        return {
            "num_frames": self.args.num_frames,
            "generator": [torch.Generator().manual_seed(self.args.seed + i) for i in scenes],
            **VideoSampling.from_args(self.args, motion_bucket_id=torch.cat(told), **changed).options(),
        }

    def first_frames(self, scenes: list[int]) -> torch.Tensor:
        return torch.cat([self.clips.videos(range(i, i + 1))[:, 0] for i in scenes])

    def draw_pairs(self, scenes: list[int], joint_guidance_scale: float, **known) -> tuple[torch.Tensor, torch.Tensor]:
        """Videos (B, F, 3, H, W) in [-1, 1] and flows (B, F - 1, 2, H, W)."""
        out = self.pipe(
            self.first_frames(scenes),
            **known,
            **self.options(scenes),
            joint_guidance_scale=joint_guidance_scale,
            flow_solver_order=self.args.flow_solver_order,
            output_type="pt",
        )
        return out.frames.float().cpu() * 2 - 1, out.flows.float().cpu()

    def draw_flows(self, scenes: list[int]) -> torch.Tensor:
        """Flows (B, F - 1, 2, H, W) of the LoRA, without guidance, as it was learned."""
        order = self.args.flow_solver_order
        options = self.options(scenes, solver_order=order, max_guidance_scale=1.0, negative_motion_bucket_id=None)
        latents = self.flow_pipe(self.first_frames(scenes), **options, output_type="latent").frames
        return self.flow_code.to_flow(self.flow_pipe.decode(self.flow_code.scale.denormalize(latents))).cpu()

    def estimate(self, videos: torch.Tensor) -> torch.Tensor:
        """DIS's flow (B, F - 1, 2, H, W) of videos, in eight bits, as a file would hold, for all kinds of them alike."""
        videos = videos.clamp(-1, 1).add(1).mul(127.5).round().div(127.5).sub(1)
        return torch.stack([self.flow(video) for video in videos])

    def measure(self, scenes: list[int], flows: torch.Tensor, videos: torch.Tensor | None) -> list[dict]:
        """Rows of flows (B, F - 1, 2, H, W) and of the videos (B, F, 3, H, W) that they belong to, of the scenes of true clips."""
        true_videos = torch.cat([self.clips.videos(range(i, i + 1)) for i in scenes])
        exact = torch.cat([self.clips.flows(range(i, i + 1)) for i in scenes])
        values = {
            "flow_motion": mean_length(flows),
            "epe_true": mean_length(flows - exact),
            "true_motion": mean_length(self.estimate(true_videos)),
            "exact_motion": mean_length(exact),
        }
        if videos is not None:
            estimated = self.estimate(videos)
            values |= {"epe": mean_length(flows - estimated), "motion": mean_length(estimated)}
            pixels = (videos.clamp(-1, 1) + 1) / 2
            values["warping_error"] = [warping_error(*pair) for pair in zip(pixels, estimated, strict=True)]
        return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]

    def show(self, scenes: list[int], flows: torch.Tensor, videos: torch.Tensor | None):
        """Columns of rows: true frames, and of what was drawn frames, flow, and DIS's flow of the frames."""
        true = torch.cat([self.clips.videos(range(i, i + 1)) for i in scenes])
        if videos is None:
            return pictures(true, color_rows(flows, flows))
        estimated = self.estimate(videos)
        return pictures(true, videos, color_rows(flows, flows), color_rows(estimated, flows))

    def judge(self, scenes: list[int], flows: torch.Tensor, videos: torch.Tensor | None = None) -> Chunk:
        return self.measure(scenes, flows, videos), self.show(scenes, flows, videos)


def truth(bench: FlowBench, indices: range) -> Chunk:
    """True clips with their exact flow: how far DIS is from the truth, the floor of `epe`."""
    return bench.judge(list(indices), bench.clips.flows(indices), bench.clips.videos(indices))


def other(bench: FlowBench, indices: range) -> Chunk:
    """True clips with the exact flow of other scenes: what a flow has that knows nothing of its video."""
    return bench.judge(list(indices), bench.other_clips.flows(indices), bench.clips.videos(indices))


@torch.no_grad()
def autoencoder(bench: FlowBench, indices: range) -> Chunk:
    """True clips and their flow through the model's autoencoder: the floor of what is drawn."""
    pipe, code = bench.pipe, bench.pipe.flow_adapter.code
    pictures_of_flow = reconstruct_clips(pipe, code.to_pictures(bench.clips.flows(indices)))
    videos = reconstruct_clips(pipe, bench.clips.videos(indices))
    return bench.judge(list(indices), code.to_flow(pictures_of_flow), videos)


def joint(bench: FlowBench, indices: range) -> Chunk:
    """Video and flow from the first frame, both at once."""
    videos, flows = bench.draw_pairs(list(indices), bench.args.joint_guidance_scale, flow_first=False)
    return bench.judge(list(indices), flows, videos)


def flow_first(bench: FlowBench, indices: range) -> Chunk:
    """Video and flow from the first frame: the flow, and then the video that it is given for."""
    order = {"flow_first": True, "flow_guidance_scale": bench.args.flow_guidance_scale}
    videos, flows = bench.draw_pairs(list(indices), bench.args.joint_guidance_scale, **order)
    return bench.judge(list(indices), flows, videos)


def flow_to_video(bench: FlowBench, indices: range) -> Chunk:
    """Videos that follow the exact flow."""
    known = {"flow": bench.clips.flows(indices)}
    videos, flows = bench.draw_pairs(list(indices), bench.args.joint_guidance_scale, **known)
    return bench.judge(list(indices), flows, videos)


def video_to_flow(bench: FlowBench, indices: range) -> Chunk:
    """The flow of true clips."""
    known = {"video": bench.clips.videos(indices)}
    videos, flows = bench.draw_pairs(list(indices), bench.args.joint_guidance_scale, **known)
    return bench.judge(list(indices), flows, videos)


def svd_flow(bench: FlowBench, indices: range) -> Chunk:
    """Flow that may follow the first frame, by the LoRA; there is no video that it belongs to."""
    return bench.judge(list(indices), bench.draw_flows(list(indices)))


def sweep(bench: FlowBench, indices: range) -> Chunk:
    """Index i is scale i % K of clip i // K, where K joint guidance scales are tried: the same frame and noise at each."""
    tried = bench.args.joint_guidance_scales
    rows, columns = [], []
    for i in indices:
        scene, scale = i // len(tried), tried[i % len(tried)]
        videos, flows = bench.draw_pairs([scene], scale, flow_first=False)
        rows.append(bench.measure([scene], flows, videos)[0] | {"scene": scene, "scale": scale})
        columns += bench.show([scene], flows, videos)
    return rows, columns


def mean_length(flows: torch.Tensor) -> list[float]:
    """Of flows (B, F - 1, 2, H, W), one value each."""
    return flows.norm(dim=2).flatten(1).mean(dim=1).tolist()


def color_rows(flows: torch.Tensor, scale: torch.Tensor) -> np.ndarray:
    """Flows (B, F - 1, 2, H, W) in Middlebury's colours, each on the scale of the longest vector of another: (B, F, H, W, 3)."""
    longest = scale.norm(dim=2).flatten(1).amax(dim=1).clamp(min=SLOWEST)
    return np.stack([flow_row(flow, float(limit)) for flow, limit in zip(flows, longest, strict=True)])
