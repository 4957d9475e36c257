"""What the page of the depth of a video asks for, within its limits, and how it is sampled."""

from dataclasses import dataclass
from functools import partial
from itertools import count
from math import ceil
from pathlib import Path

import numpy as np

from gradios.desk import Desk, Made
from gradios.pair_sampling import DEPTH, MAX_STEPS, SCRIPT, Weights, load, preview
from gradios.results import doubts, keep_input, pack, start_run
from gradios.running import Reporter
from gradios.uploads import MAX_SEED, check_text, check_video, check_whole
from gradios.videos import as_flags, enlarged, size_of
from pipelines.clip_depth import estimate_clip, read_clip, static_change
from pipelines.image_pairs import name_adapters
from pipelines.sizes import fit_video
from run_models import run_depth_image
from utils.arguments import parse_args
from utils.depth import color_disparity
from utils.video import contact_sheet, index_frames, to_frames, write_video

MAX_CLIP = 64  # frames
BATCH = 4  # frames that are sampled together


@dataclass(frozen=True)
class Asked:
    """What a visitor asks for, within its limits.

    Raises:
        ValueError, OSError: A value is not allowed, or the file is no video.
    """

    video: str
    prompt: str
    num_inference_steps: int
    seed: int

    def __post_init__(self):
        if not check_video("The video", self.video, MAX_CLIP):
            raise ValueError("There is no video: give one, or try an example.")
        check_text("The prompt", self.prompt)
        check_whole("num_inference_steps", self.num_inference_steps, 1, MAX_STEPS)
        check_whole("seed", self.seed, 0, MAX_SEED)

    def flags(self, base: str, adapter: str, video: str) -> list[str]:
        """Flags of `run_depth_image.py`."""
        values = {"mode": "image_to_depth", "video": video, "prompt": check_text("The prompt", self.prompt)}
        values |= {"num_inference_steps": int(self.num_inference_steps), "seed": int(self.seed)}
        values |= {"pretrained_model_name_or_path": base, "adapter": f"{DEPTH}={adapter}"}
        return as_flags(values)


def make(desk: Desk, weights: Weights, asked: Asked, folder: Path, report: Reporter) -> Made:
    """Sample the depth of each frame; files go into the folder."""
    if not weights.depth:
        named = ", ".join(name_adapters(weights.adapters))
        raise ValueError(f"There is no adapter of the name {DEPTH}: the adapters are {named}.")
    kept = keep_input(folder, asked.video, "video")
    argv = [*asked.flags(weights.base, weights.depth, str(folder / kept)), f"--output_dir={folder / 'again'}"]
    args = run_depth_image.with_defaults(parse_args(run_depth_image.parser(), argv))
    run_depth_image.check_arguments(args)
    command = asked.flags(weights.base, weights.depth, kept)
    run = start_run(SCRIPT, command, vars(args), [weights.base, weights.depth])
    clip = read_clip(args.video)
    with desk.slot.using(load, weights.base, weights.adapters, desk.device, desk.dtype) as pipe:
        options = run_depth_image.video_options(args) | watch(report, len(clip.pixels))
        video = fit_video(pipe, clip.pixels, args.height, args.width, args.video)
        depth, files = estimate_clip(pipe, video, clip.fps, folder, **options)
    return show(video, depth, files, run, folder, asked, doubts(weights.base, video[0], "The video"))


def watch(report: Reporter, frames: int) -> dict:
    """Arguments of `estimate_clip` that report its steps."""
    done, parts = count(1), ceil(frames / BATCH)

    def on_step(pipe, step: int, t, tensors: dict) -> dict:
        report("Depth of each frame", next(done), parts * pipe.num_timesteps, partial(preview, pipe, tensors))
        return {}

    tensors = ["latents", "condition_latents"]
    return {
        "batch_size": BATCH,
        "callback_on_step_end": on_step,
        "callback_on_step_end_tensor_inputs": tensors,
    }


def show(video, depth, files: list[Path], run, folder: Path, asked: Asked, doubtful: list[str]) -> Made:
    """Values of the components that show a result."""
    shown, sheet = folder / "shown_video.mp4", folder / "frames.png"
    colors = np.stack([np.asarray(color_disparity(frame)) for frame in depth])
    beside = np.concatenate([to_frames(video), colors], axis=2)
    write_video(shown, enlarged(beside), index_frames(asked.video).fps)
    contact_sheet(beside, columns=4).save(sheet)
    archive = pack(folder, run, [*files, shown, sheet], "duet_depth_video", frames=len(video), **size_of(video))
    sentence = f"Depth of {len(video)} frames of {video.shape[-1]}×{video.shape[-2]} pixels, seed {asked.seed},"
    return Made((str(shown), str(sheet), archive), sentence, [describe(static_change(depth, video)), *doubtful])


def describe(change: float | None) -> str:
    """How steady the depth is, in a sentence."""
    if change is None:
        return "Nothing in the video stands still, so that how steady its depth is cannot be said."
    return f"Where the video stands still, its depth changes by {100 * change:.1f}% of its range from frame to frame."
