"""Sample and draw videos in another style: style_transfer.png of the docs.

python -m benchmarks.draw_style_transfer --output_dir docs

Clips of the procedural world get other colours: from the depth of the first frame and a prompt comes a new first frame,
and from it a video by the segmentation of the clip, and one without a control. Everything comes from the weights of the
repository. Prints for each clip the prompt, and 1 - IoU of the objects, found by their new colours, with those of the
clip: in the new first frame and in both videos.
"""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.control_tasks import mask_error, truth_of
from benchmarks.protocol.folder import save_sheet
from benchmarks.svd_clips import render_frames
from benchmarks.video_bench import clip_sheet
from pipelines.image_pairs import load_joint, sample_pairs
from pipelines.pipeline_stable_video_diffusion_controlnet import StableVideoDiffusionControlNetPipeline
from utils.arguments import REPOSITORY, make_parser, parse_args, positive_int, run_script
from utils.depth import metres_to_disparity, normalize_disparity
from utils.images import to_pixels
from utils.pretrained import load_pipeline, shipped
from utils.scenes import COLORS, FLOORS, WALLS, Scene, sample_scene
from utils.scenes.captions import caption
from utils.video import to_pixels as frames_to_pixels

SIDE, FRAMES, SCALE = 64, 8, 2  # pixels and number of the small base's frames, and how much larger they are drawn
SEEDS = (2_600_009, 2_600_000)
SHOWN_KINDS = 4  # source, control and both videos


class Restyled(NamedTuple):
    """Of a clip: frames (F, 3, H, W) in [-1, 1], and 1 - IoU of the first frame and of both videos."""

    source: torch.Tensor
    control: torch.Tensor
    controlled: torch.Tensor
    free: torch.Tensor
    errors: tuple[float, float, float]


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    add = result.add_argument
    add("--output_dir", default=str(REPOSITORY / "docs"), help="folder of style_transfer.png, which is replaced")
    add("--seeds", type=int, nargs="+", default=list(SEEDS), help="seeds of the clips")
    add("--num_inference_steps", type=positive_int, default=25, help="denoising steps")
    return result


def main(argv=None) -> Path:
    """Runs the command and returns the file."""
    args = parse_args(parser(), argv)
    joint = load_joint(shipped("tiny_sd"), {"depth": shipped("depth_image/depth.safetensors")})
    pipe = load_pipeline(StableVideoDiffusionControlNetPipeline, shipped("tiny_svd"))
    pipe.load_controlnet(shipped("svd_controlnet/segmentation"))
    clips = [restyle(joint, pipe, seed, args.num_inference_steps) for seed in args.seeds]
    means = np.mean([clip.errors for clip in clips], axis=0)
    print(f"mean of {len(clips)}: {in_words(means)}")
    path = Path(args.output_dir) / "style_transfer.png"
    save_sheet(path, clip_sheet(*([enlarge(clip[kind]) for clip in clips] for kind in range(SHOWN_KINDS))))
    print(f"Written: {path}")
    return path


def restyle(joint, pipe, seed: int, steps: int) -> Restyled:
    """The clip of a seed in other colours, by the joint model and by Stable Video Diffusion with its ControlNet."""
    truth, scene = truth_of(seed, FRAMES, SIDE, False), recolored(sample_scene(seed))
    disparity = normalize_disparity(metres_to_disparity(truth.depth[:1]))[0]
    known = {"prompt": caption(scene), "generator": torch.Generator().manual_seed(0)}
    first = to_pixels(sample_pairs(joint, None, {"depth": disparity}, num_inference_steps=steps, **known).images[0])
    control = truth.control("segmentation")
    options = {"max_guidance_scale": 2.0, "num_inference_steps": steps, "guide_control": True, "output_type": "pt"}
    videos = [
        pipe(first[None], given, **options, generator=torch.Generator().manual_seed(0)).frames[0] * 2 - 1
        for given in (control[None], None)
    ]
    shown = (first[None], *videos)
    errors = [mask_error(frames, scene, truth.labels[: len(frames)]) for frames in shown]
    print(f"{seed}, {caption(scene)!r}: {in_words(errors)}", flush=True)
    source = frames_to_pixels(render_frames(seed, FRAMES, SIDE, None)[0])
    return Restyled(source, control, *videos, tuple(errors))


def recolored(scene: Scene) -> Scene:
    """A scene of which all things have other colours, and no two objects the same."""
    free = [color for color in COLORS if color not in {solid.color for solid in scene.objects}][::2]
    objects = tuple(replace(solid, color=color) for solid, color in zip(scene.objects, free, strict=False))
    return replace(scene, objects=objects, floor=after(FLOORS, scene.floor), wall=after(WALLS, scene.wall))


def enlarge(video: torch.Tensor) -> torch.Tensor:
    return video.repeat_interleave(SCALE, dim=-2).repeat_interleave(SCALE, dim=-1)


def after(names: Iterable[str], name: str) -> str:
    """The next of some names, and of the last one the first."""
    names = list(names)
    return names[(names.index(name) + 1) % len(names)]


def in_words(errors: Sequence[float]) -> str:
    return "first frame {:.3f}, video with control {:.3f}, without {:.3f}".format(*errors)


if __name__ == "__main__":
    run_script(main)
