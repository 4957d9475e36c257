"""The tasks of `benchmarks.eval_flow_video`: functions from indices of clips to rows of figures and a sheet.

A row holds

    epe            mean distance of the flow from DIS's flow of its video, pixels per frame
    motion         mean length of DIS's flow of the video
    flow_motion    mean length of the flow
    warping_error  of the video along DIS's flow, mean squared difference of pixels in [0, 1]
    epe_true       mean distance of the flow from the exact flow of the true clip
    true_motion    mean length of DIS's flow of the true clip
    exact_motion   mean length of its exact flow
    edge_moment    sum over the flow of the first frame of |gradient| x distance of the nearest outline of an object
    edge_weight    sum of |gradient|
"""

from collections.abc import Sequence
from functools import cached_property, lru_cache

import numpy as np
import torch
from tqdm.auto import tqdm

from benchmarks.protocol import Chunk
from benchmarks.svd_clips import AT_ONCE, PLANNED_FRAMES, TrueClips
from benchmarks.svd_tasks import OTHER_SEEDS
from benchmarks.video_bench import VideoBench, clip_sheet, eight_bits, reconstruct_clips
from pipelines.flow_adapter import FlowAdapter
from pipelines.pipeline_stable_video_diffusion import StableVideoDiffusionEDMPipeline
from pipelines.pipeline_stable_video_diffusion_joint import StableVideoDiffusionJointPipeline
from utils.files import replacing
from utils.metrics.flow import edge_distance, warping_error
from utils.scenes import sample_clip
from utils.scenes.motion import Clip
from utils.scenes.video import clip_flow
from utils.training.flow_validation import SLOWEST, flow_row
from utils.weights.lora import load_lora


class TrueFlowClips(TrueClips):
    """`TrueClips` with their exact flow, in files of its own beside the frames."""

    def flows(self, indices: Sequence[int]) -> torch.Tensor:
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


class FlowBench(VideoBench):
    """Models and clips."""

    def __init__(self, args):
        super().__init__(args)
        shared = (args.num_frames, args.resolution)
        self.clips = TrueFlowClips(args.cache_dir, args.first_seed, *shared)
        self.other_clips = TrueFlowClips(args.cache_dir, args.first_seed + OTHER_SEEDS, *shared)

    @cached_property
    def pipe(self) -> StableVideoDiffusionJointPipeline:
        """The base with the joint adapter."""
        pipe = self.load(StableVideoDiffusionJointPipeline)
        pipe.load_flow_adapter(self.args.adapter)
        return pipe.to(self.args.device)

    @cached_property
    def estimator(self) -> StableVideoDiffusionJointPipeline:
        """The base with the LoRA that estimates flow."""
        pipe = self.load(StableVideoDiffusionJointPipeline)
        pipe.load_flow_adapter(self.args.flow_lora)
        return pipe.to(self.args.device)

    @cached_property
    def flow_pipe(self) -> StableVideoDiffusionEDMPipeline:
        """The base with the LoRA that samples flow."""
        pipe = self.load(StableVideoDiffusionEDMPipeline)
        load_lora(pipe.unet, self.args.flow_lora)
        return pipe.to(self.args.device)

    @cached_property
    def flow_alone(self) -> FlowAdapter:
        """How the LoRA that samples flow was trained."""
        return FlowAdapter.alone(self.args.flow_lora, "--flow_lora")

    def options(self, scenes: Sequence[int], **sampling) -> dict:
        """Keyword arguments of a pipeline for the first frames of clips."""
        buckets = self.true_buckets(self.clips.videos(scenes))
        options = self.sampling(motion_bucket_id=buckets, **sampling)
        return options | {"num_frames": self.args.num_frames, "generator": self.noise(scenes)}

    def sample_pairs(self, scenes: Sequence[int], **known) -> tuple[torch.Tensor, torch.Tensor]:
        """Videos (B, F, 3, H, W) in [-1, 1] and flows (B, F - 1, 2, H, W); known: further arguments of the pipeline."""
        options = {"joint_guidance_scale": self.args.joint_guidance_scale, "output_type": "pt"} | self.options(scenes)
        options |= {"flow_solver_order": self.args.flow_solver_order} | known
        out = self.pipe(self.clips.videos(scenes)[:, 0], **options)
        return out.frames.float().cpu() * 2 - 1, out.flows.float().cpu()

    def sample_flows(self, scenes: Sequence[int]) -> torch.Tensor:
        """Flows (B, F - 1, 2, H, W) of the LoRA, with its own guidance."""
        sampling = {"negative_motion_bucket_id": None, "eta": 0.0, "still_threshold": 0.0}  # of videos alone
        sampling |= self.flow_alone.sampling_alone | {"solver_order": self.args.flow_solver_order}
        options, code = self.options(scenes, **sampling), self.flow_alone.code
        latents = self.flow_pipe(self.clips.videos(scenes)[:, 0], output_type="latent", **options).frames
        return code.to_flow(self.flow_pipe.decode(code.scale.denormalize(latents))).cpu()

    def estimate(self, videos: torch.Tensor) -> torch.Tensor:
        """DIS's flow (B, F - 1, 2, H, W) of videos in eight bits."""
        return torch.stack([self.flow(video) for video in eight_bits(videos)])

    def measure(self, scenes: Sequence[int], flows: torch.Tensor, videos: torch.Tensor | None) -> list[dict]:
        """Rows of flows (B, F - 1, 2, H, W) and their videos (B, F, 3, H, W), of the scenes of true clips."""
        true_videos, exact = self.clips.videos(scenes), self.clips.flows(scenes)
        values = {
            "flow_motion": mean_length(flows),
            "epe_true": mean_length(flows - exact),
            "true_motion": mean_length(self.estimate(true_videos)),
            "exact_motion": mean_length(exact),
        }
        edges = [edge_distance(flow[0], self.clips.labels(scene)) for scene, flow in zip(scenes, flows, strict=True)]
        values["edge_moment"], values["edge_weight"] = zip(*edges, strict=True)
        if videos is not None:
            estimated = self.estimate(videos)
            values |= {"epe": mean_length(flows - estimated), "motion": mean_length(estimated)}
            pixels = (videos.clamp(-1, 1) + 1) / 2
            values["warping_error"] = [warping_error(*pair) for pair in zip(pixels, estimated, strict=True)]
        return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]

    def show(self, scenes: Sequence[int], flows: torch.Tensor, videos: torch.Tensor | None):
        """A sheet of true frames, and below them frames, flow, and DIS's flow of the frames, as sampled."""
        true = self.clips.videos(scenes)
        if videos is None:
            return clip_sheet(true, color_rows(flows, flows))
        estimated = self.estimate(videos)
        return clip_sheet(true, videos, color_rows(flows, flows), color_rows(estimated, flows))

    def judge(self, scenes: Sequence[int], flows: torch.Tensor, videos: torch.Tensor | None = None) -> Chunk:
        return self.measure(scenes, flows, videos), self.show(scenes, flows, videos)


def truth(bench: FlowBench, indices: range) -> Chunk:
    """True clips with their exact flow: how far DIS is from the truth, the floor of `epe`."""
    return bench.judge(indices, bench.clips.flows(indices), bench.clips.videos(indices))


def other(bench: FlowBench, indices: range) -> Chunk:
    """True clips with the exact flow of other scenes: what a flow that is independent of its video gets."""
    return bench.judge(indices, bench.other_clips.flows(indices), bench.clips.videos(indices))


@torch.no_grad()
def autoencoder(bench: FlowBench, indices: range) -> Chunk:
    """True clips and their flow through the model's autoencoder: the floor of all samples."""
    pipe, code = bench.pipe, bench.pipe.flow_adapter.code
    flow_images = reconstruct_clips(pipe, code.to_images(bench.clips.flows(indices)))
    videos = reconstruct_clips(pipe, bench.clips.videos(indices))
    return bench.judge(indices, code.to_flow(flow_images), videos)


def joint(bench: FlowBench, indices: range) -> Chunk:
    """Video and flow from the first frame, both at once."""
    return sampled(bench, indices, flow_first=False)


def flow_first(bench: FlowBench, indices: range) -> Chunk:
    """Video and flow from the first frame: first the flow, then the video given the flow."""
    return sampled(bench, indices, flow_first=True, flow_guidance_scale=bench.args.flow_guidance_scale)


def flow_to_video(bench: FlowBench, indices: range) -> Chunk:
    """Videos given the exact flow."""
    return sampled(bench, indices, flow=bench.clips.flows(indices))


def video_to_flow(bench: FlowBench, indices: range) -> Chunk:
    """Flow given the true clips."""
    return sampled(bench, indices, video=bench.clips.videos(indices))


def one_step(bench: FlowBench, indices: range) -> Chunk:
    """Flow of the true clips, estimated in one step by the LoRA."""
    videos = bench.clips.videos(indices)
    flows = bench.estimator(videos[:, 0], video=videos, output_type="pt").flows
    return bench.judge(indices, flows.float().cpu(), videos)


def sampled(bench: FlowBench, indices: range, **known) -> Chunk:
    videos, flows = bench.sample_pairs(indices, **known)
    return bench.judge(indices, flows, videos)


def svd_flow(bench: FlowBench, indices: range) -> Chunk:
    """Flow that may follow the first frame, by the LoRA; there is no video that it belongs to."""
    return bench.judge(indices, bench.sample_flows(indices))


def sweep(bench: FlowBench, indices: range) -> Chunk:
    """Index i is scale i % K of clip i // K, with K joint guidance scales: the same frame and noise at each."""
    tried = bench.args.joint_guidance_scales
    rows, columns = [], []
    for i in indices:
        scene, scale = i // len(tried), tried[i % len(tried)]
        videos, flows = bench.sample_pairs([scene], joint_guidance_scale=scale, flow_first=False)
        rows.append(bench.measure([scene], flows, videos)[0] | {"scene": scene, "scale": scale})
        columns += bench.show([scene], flows, videos)
    return rows, columns


def mean_length(flows: torch.Tensor) -> list[float]:
    """Mean length of each of the flows (B, F - 1, 2, H, W)."""
    return flows.norm(dim=2).flatten(1).mean(dim=1).tolist()


def color_rows(flows: torch.Tensor, scale: torch.Tensor) -> np.ndarray:
    """Flows (B, F - 1, 2, H, W) in colours (B, F, H, W, 3), each on the scale of the longest vector of another."""
    longest = scale.norm(dim=2).flatten(1).amax(dim=1).clamp(min=SLOWEST)
    return np.stack([flow_row(flow, float(limit)) for flow, limit in zip(flows, longest, strict=True)])
