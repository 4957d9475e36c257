"""The methods of `benchmarks.eval_keyframe_edit`: from clips, and prompts with another colour, to edited clips.

A row holds, of an edited clip beside the true one, which the renderer draws from the same scene in the other colour

    changed         share of the object's pixels, where the true clip shows it, that have its new colour
    unchanged       share of them that have its old colour
    inside          mean distance from the true clip on the object, levels of 0 to 255
    outside         the same outside of the object and of a margin of 2 pixels: what was to stay
    color_std       standard deviation over the keyframes of how far the object's mean colour is from the true one, mean
                    of the three channels, levels of 0 to 255
    position_std    the same of its centroid, mean of x and y, pixels of an image 256 wide
    lost            share of the keyframes without the object in its new colour
    flow_error      end-point error of the flow that DIS finds in it, from the exact one, pixels of an image 256 wide
    features        of the video judge
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from benchmarks.color_finder import LOST, find_masks
from benchmarks.protocol import Chunk
from benchmarks.svd_clips import PLANNED_FRAMES
from benchmarks.video_bench import VideoBench, clip_sheet, eight_bits
from pipelines.edit_fill import StableVideoDiffusionLedTransPipeline
from pipelines.edit_folder import EditFolder
from pipelines.edit_keyframes import choose_keyframes
from pipelines.edit_video import Edit, FillSettings, edit_keyframes, fill_gaps
from pipelines.pipeline_keyframe_edit import AUTO, EditSettings, StableDiffusionKeyframeEditPipeline
from pipelines.trans_adapter import choose_adapter
from utils.metrics.trajectory import WIDTH
from utils.pretrained import load_pipeline
from utils.scenes import ColorEdit, render, sample_color_edit
from utils.scenes.video import clip_flow
from utils.video import to_pixels

MARGIN = 2  # pixels around the object that count neither inside nor outside


@dataclass(frozen=True, eq=False)
class TrueEdit:
    """An edit with its exact result, and where it changes the source.

    Attributes:
        edit: What is asked.
        source, target: (F, 3, H, W) in [-1, 1].
        inside: bool (F, H, W), pixels of the object.
        flow: Exact, (F - 1, 2, H, W).
    """

    edit: ColorEdit
    source: torch.Tensor
    target: torch.Tensor
    inside: torch.Tensor
    flow: torch.Tensor


Method = Callable[["Bench", TrueEdit, int], torch.Tensor]  # and the seed


class Bench(VideoBench):
    """Models and clips."""

    @lru_cache(maxsize=16)  # noqa: B019, an evaluation lives as long as the process
    def true(self, index: int) -> TrueEdit:
        """The i-th clip with its edit."""
        F, side = self.args.num_frames, self.args.resolution
        edit = sample_color_edit(self.args.first_seed + index, max(F, PLANNED_FRAMES))
        sides = [[render(clip.at(t), side) for t in range(F)] for clip in (edit.source, edit.target)]
        source, target = (to_pixels(np.stack([frame.image for frame in frames])) for frames in sides)
        inside = torch.from_numpy(np.stack([frame.labels == edit.index for frame in sides[0]]))
        flow = torch.from_numpy(clip_flow(edit.source, side)[0])[: F - 1]
        return TrueEdit(edit, source, target, inside, flow)

    @cached_property
    def keyframes(self) -> list[int]:
        return choose_keyframes(self.args.num_frames, self.args.keyframe_interval)

    @cached_property
    def image_pipe(self) -> StableDiffusionKeyframeEditPipeline:
        pipe = load_pipeline(
            StableDiffusionKeyframeEditPipeline, self.args.image_model, self.args.dtype, "--image_model"
        )
        pipe.set_progress_bar_config(disable=True)
        pipe.load_adapter_pair(self.args.depth_adapter)
        return pipe.to(self.args.device)

    @cached_property
    def video_pipe(self) -> StableVideoDiffusionLedTransPipeline:
        pipe = self.load(StableVideoDiffusionLedTransPipeline)
        if adapter := adapter_of(self.args):
            pipe.load_adapter(adapter)
        return pipe.to(self.args.device)

    def edit(self, true: TrueEdit, seed: int, **changes) -> torch.Tensor:
        """An edited clip by its keyframes, as the command makes it; changes: of the settings."""
        settings = EditSettings.from_args(self.args, **{k: v for k, v in changes.items() if k in EditSettings.names()})
        fill = FillSettings.from_args(self.args, **{k: v for k, v in changes.items() if k in FillSettings.names()})
        prompts = true.edit.prompt, true.edit.source_prompt, None
        with tempfile.TemporaryDirectory() as folder:
            edit = Edit(true.source, self.keyframes, AUTO, EditFolder(Path(folder)), seed)
            edit_keyframes(edit, lambda: self.image_pipe, *prompts, settings, fill.together)
            options = self.sampling() | {"decode_chunk_size": None}
            most = self.video_pipe.unet.config.num_frames
            return fill_gaps(edit, lambda: self.video_pipe, fill, most, **options)

    @torch.no_grad()
    def row(self, video: torch.Tensor, true: TrueEdit) -> dict:
        """Figures of an edited clip (F, 3, H, W)."""
        video = eight_bits(video)
        outside = functional.max_pool2d(true.inside.float()[:, None], 2 * MARGIN + 1, 1, MARGIN)[:, 0] == 0
        distance = (video - true.target).abs().mean(dim=1) * 127.5  # (F, H, W)
        flow = self.flow(video)
        error = (flow - true.flow).norm(dim=1).mean().item() * WIDTH / video.shape[-1]
        features = self.video_judge.features(video[None].to(self.args.device))[0].tolist()
        colors = colors_of(video, true)
        agreement = keyframes_agree(video[self.keyframes], true, self.keyframes, colors["new"][self.keyframes])
        return {
            "changed": colors["new"][true.inside].float().mean().item(),
            "unchanged": colors["old"][true.inside].float().mean().item(),
            "inside": distance[true.inside].mean().item(),
            "outside": distance[outside].mean().item(),
            **agreement,
            "flow_error": error,
            "features": features,
        }


def adapter_of(args) -> str | None:
    """The adapter that fills the gaps; raises ValueError for flags that contradict each other."""
    return choose_adapter(args.model_dir, args.adapter, args.training_free)


def colors_of(video: torch.Tensor, true: TrueEdit) -> dict[str, torch.Tensor]:
    """Pixels of the new and of the old colour of the object, bool (F, H, W)."""
    old, new = true.edit.colors
    scene = true.edit.target.scene
    names = list(dict.fromkeys([new, old, *(solid.color for solid in scene.objects)]))
    masks = find_masks(video, names, scene.floor, scene.wall)
    return {"new": masks[:, 0], "old": masks[:, 1]}


def keyframes_agree(frames: torch.Tensor, true: TrueEdit, numbers: list[int], found: torch.Tensor) -> dict[str, float]:
    """Deviations over K keyframes (K, 3, H, W) of the object, found (K, H, W), from the true one."""
    colors, places, lost = [], [], 0
    for frame, number, mask in zip(frames, numbers, found, strict=True):
        inside = true.inside[number]
        if not inside.any():
            continue
        if mask.sum() < LOST * inside.sum():
            lost += 1
            continue
        colors.append((frame[:, mask].mean(dim=1) - true.target[number][:, inside].mean(dim=1)) * 127.5)
        places.append((centroid(mask) - centroid(inside)) * WIDTH / frame.shape[-1])
    spread = [torch.stack(v).std(dim=0).mean().item() if len(v) > 1 else float("nan") for v in (colors, places)]
    return {"color_std": spread[0], "position_std": spread[1], "lost": lost / len(numbers)}


def centroid(mask: torch.Tensor) -> torch.Tensor:
    """(2,), x then y, of a mask (H, W)."""
    return mask.nonzero().float().mean(dim=0).flip(0)


def truth(bench: Bench, true: TrueEdit, seed: int) -> torch.Tensor:
    return true.target


def source(bench: Bench, true: TrueEdit, seed: int) -> torch.Tensor:
    """The clip as it was."""
    return true.source


@torch.no_grad()
def alone(bench: Bench, true: TrueEdit, seed: int) -> torch.Tensor:
    """Each frame edited by itself, with noise of its own; no frame is filled in."""
    settings = EditSettings.from_args(bench.args, cross_frame=False).options()
    frames = []
    for number, frame in enumerate(true.source):
        noise = torch.Generator().manual_seed(seed * PLANNED_FRAMES + number)
        prompts = true.edit.prompt, true.edit.source_prompt
        out = bench.image_pipe(frame[None], *prompts, AUTO, generator=noise, output_type="pt", **settings)
        frames.append(out.images[0].cpu() * 2 - 1)
    return torch.stack(frames)


def no_attention(bench: Bench, true: TrueEdit, seed: int) -> torch.Tensor:
    """As together, without attention across keyframes."""
    return bench.edit(true, seed, cross_frame=False)


def unled(bench: Bench, true: TrueEdit, seed: int) -> torch.Tensor:
    """As together; the gaps are not guided by the flow of the source."""
    return bench.edit(true, seed, lead_strength=1.0)


def together(bench: Bench, true: TrueEdit, seed: int) -> torch.Tensor:
    """What the command does."""
    return bench.edit(true, seed)


METHODS: dict[str, Method] = {
    method.__name__: method for method in (truth, source, alone, no_attention, unled, together)
}


def measure(bench: Bench, indices: range, method: Method) -> Chunk:
    trues = [bench.true(index) for index in indices]
    videos = [method(bench, true, bench.args.seed + index) for true, index in zip(trues, indices, strict=True)]
    rows = [bench.row(video, true) for video, true in zip(videos, trues, strict=True)]
    return rows, clip_sheet(torch.stack(videos))
