"""Measure how steady the depth of a video is that is sampled frame by frame, on clips that no training has seen.

python -m benchmarks.eval_depth_video --output_dir outputs/eval_depth_video

change: mean absolute difference of the normalised disparity from frame to frame, in percent of its range, over the
pixels where the scene stands still (floor and wall of clips with a still camera, and nothing in front of them in either
frame). There the truth does not change; `truth` is the rendered depth, normalised frame by frame as a training sees it.
AbsRel: error of the depth, mean over the frames. The ways: `own_noise` draws noise for each frame, `same_noise` has one
for all, and `aligned`, what --mode image_to_depth of run_depth_image does, also aligns each frame to the one before.
`one_step` estimates each frame with the adapter of --one_step_adapter and aligns it.
"""

import argparse
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import protocol
from pipelines.clip_depth import estimate_clip_depth, sample_clip_depth
from pipelines.image_pairs import check_depth_adapter, check_samples, load_joint
from utils.arguments import make_parser, positive_int, run_script
from utils.depth import color_disparity, metres_to_disparity, normalize_disparity
from utils.diffusion.one_step import ONE_STEP
from utils.messages.words import count
from utils.metrics.depth import depth_errors
from utils.pretrained import shipped
from utils.scenes import check_unseen, render_clip, sample_clip
from utils.video import to_pixels

WAYS = {  # arguments of `sample_clip_depth`
    "own_noise": {"same_noise": False, "align": False},
    "same_noise": {"align": False},
    "aligned": {},
}
FIGURES = ("change", "AbsRel")
TASKS = ("truth", *WAYS, ONE_STEP)


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    add = result.add_argument
    add("--pretrained_model_name_or_path", default=shipped("tiny_sd"), help="base")
    add("--adapter", default=shipped("depth_image/depth.safetensors"), help="joint adapter of depth")
    estimator = "adapter of the task one_step, as of train_depth_image.py --objective one_step"
    add("--one_step_adapter", default=shipped("depth_image/one_step"), help=estimator)
    add("--num_inference_steps", type=positive_int, default=15, help="denoising steps")
    protocol.add_clip_arguments(result, 16, leave_out=("cache_dir",))
    protocol.add_choice_argument(result, TASKS)
    protocol.add_run_arguments(result, batch_size=2)
    return result


class DepthBench:
    """Clips, and the pipeline, which is loaded when it is first needed."""

    def __init__(self, args: argparse.Namespace):
        self.args = args

    @cached_property
    def pipe(self):
        return self.load(self.args.adapter)

    @cached_property
    def estimator(self):
        return self.load(self.args.one_step_adapter)

    def load(self, adapter: str):
        pipe = load_joint(self.args.pretrained_model_name_or_path, {"depth": adapter}, device=self.args.device)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def clip(self, index: int):
        clip = sample_clip(self.args.first_seed + index, self.args.num_frames, texture=0.0, camera="still")
        return render_clip(clip, self.args.resolution, num_tracks=2)


def measure(bench: DepthBench, indices: range, way: str) -> protocol.Chunk:
    """Rows of figures, and a sheet: images and depth of the first frames."""
    rows, columns = [], [[], [], []]
    for index in indices:
        clip = bench.clip(index)
        if way == "truth":
            depth = np.stack([normalize_disparity(metres_to_disparity(frame)) for frame in clip.depth])
        elif way == ONE_STEP:
            depth = estimate_clip_depth(bench.estimator, to_pixels(clip.video))
        else:
            options = {"num_inference_steps": bench.args.num_inference_steps, "seed": bench.args.seed + index}
            depth = sample_clip_depth(bench.pipe, to_pixels(clip.video), **options, **WAYS[way])
        rows.append(figures(depth, clip.depth, clip.labels))
        for column, number in zip(columns, (0, 1, len(depth) - 1), strict=True):
            column += [Image.fromarray(clip.video[number]), color_disparity(depth[number])]
    return rows, columns


def figures(depth: np.ndarray, metres: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Figures of normalised disparity (F, H, W) in [-1, 1] by the true depth and the labels of its pixels."""
    static = (labels[:-1] < 0) & (labels[1:] == labels[:-1]) & np.isclose(metres[1:], metres[:-1], rtol=1e-4)
    change = np.abs(np.diff(depth, axis=0))[static].mean() / 2
    errors = [depth_errors(one, truth).abs_rel for one, truth in zip(depth, metres, strict=True)]
    return {"change": 100 * float(change), "AbsRel": float(np.mean(errors))}


def check(args: argparse.Namespace) -> None:
    """Raises one sentence about what would fail after models are loaded."""
    check_unseen(args.first_seed)
    protocol.check_count(args, "num_frames", 2)
    tasks = set(args.tasks or TASKS)
    for flag, path, users in (
        ("--adapter", args.adapter, {*WAYS}),
        ("--one_step_adapter", args.one_step_adapter, {ONE_STEP}),
    ):
        if tasks & users:
            check_depth_adapter(path, flag)
    if tasks & {*WAYS}:
        check_samples(args.adapter, "--adapter")


def files(args: argparse.Namespace) -> dict[str, list[Path]]:
    return {
        "base_hash": list(Path(args.pretrained_model_name_or_path).rglob("*.safetensors")),
        "adapter_hash": protocol.weight_files(args.adapter),
        "one_step_adapter_hash": protocol.weight_files(args.one_step_adapter),
    }


def table(estimates: protocol.Estimates, counts: dict[str, int]) -> list[str]:
    return [*protocol.wide_table(estimates, "way"), "", f"{count(min(counts.values()), 'clip')} each."]


def tasks(args: argparse.Namespace) -> dict[str, protocol.Task]:
    return {way: partial(measure, way=way) for way in TASKS}


EVALUATION = protocol.Evaluation(
    "eval_depth_video", parser, tasks, DepthBench, check, files, protocol.means_of(FIGURES), table=table
)
main = partial(protocol.run, EVALUATION)

if __name__ == "__main__":
    run_script(main)
