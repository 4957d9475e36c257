"""What the page of the depth of a video asks for, within its limits, and how it is estimated."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from gradios.desk import Desk, Made
from gradios.pair_sampling import DEPTH, SCRIPT, Weights, load
from gradios.results import doubts, keep_input, pack, start_run
from gradios.running import Reporter
from gradios.uploads import check_video
from gradios.videos import as_flags, enlarged, size_of
from pipelines.clip_depth import estimate_clip_depth, read_clip, static_change, write_clip_depth
from pipelines.image_pairs import check_depth_adapter
from pipelines.sizes import fit_video
from run_models import run_depth_image
from utils.arguments import parse_args
from utils.depth import color_disparity
from utils.diffusion.one_step import ONE_STEP
from utils.video import contact_sheet, index_frames, to_frames, write_video

MAX_CLIP = 64  # frames


@dataclass(frozen=True)
class Asked:
    """What a visitor asks for, within its limits.

    Raises:
        ValueError, OSError: The file is no video, or too long or large.
    """

    video: str

    def __post_init__(self):
        if not check_video("The video", self.video, MAX_CLIP):
            raise ValueError("There is no video: give one, or try an example.")

    def flags(self, base: str, adapter: str, video: str) -> list[str]:
        """Flags of `run_depth_image.py`."""
        values = {"mode": ONE_STEP, "video": video, "pretrained_model_name_or_path": base}
        return as_flags(values | {"adapter": f"{DEPTH}={adapter}"})


def make(desk: Desk, weights: Weights, asked: Asked, folder: Path, report: Reporter) -> Made:
    """Estimate the depth of each frame; files go into the folder."""
    adapter = f"{DEPTH}={weights.estimator}"
    kept = keep_input(folder, asked.video, "video")
    argv = [*asked.flags(weights.base, weights.estimator, str(folder / kept)), f"--output_dir={folder / 'again'}"]
    args = parse_args(run_depth_image.parser(), argv)
    run_depth_image.check_arguments(args)
    check_depth_adapter(weights.estimator, "")
    command = asked.flags(weights.base, weights.estimator, kept)
    run = start_run(SCRIPT, command, vars(args), [weights.base, weights.estimator])
    clip = read_clip(args.video)
    with desk.slot.using(load, weights.base, (adapter,), desk.device, desk.dtype) as pipe:
        video = fit_video(pipe, clip.pixels, args.height, args.width, args.video)
        depth = estimate_clip_depth(pipe, video, on_frames=partial(report, "Depth of the frames", total=len(video)))
    files = write_clip_depth(folder, video, depth, clip.fps)
    return show(video, depth, files, run, folder, asked, doubts(weights.base, video[0], "The video"))


def show(video, depth, files: list[Path], run, folder: Path, asked: Asked, doubtful: list[str]) -> Made:
    """Values of the components that show a result."""
    shown, sheet = folder / "shown_video.mp4", folder / "frames.png"
    colors = np.stack([np.asarray(color_disparity(frame)) for frame in depth])
    beside = np.concatenate([to_frames(video), colors], axis=2)
    write_video(shown, enlarged(beside), index_frames(asked.video).fps)
    contact_sheet(beside, columns=4).save(sheet)
    archive = pack(folder, run, [*files, shown, sheet], "duet_depth_video", frames=len(video), **size_of(video))
    sentence = f"Depth of {len(video)} frames of {video.shape[-1]}×{video.shape[-2]} pixels,"
    return Made((str(shown), str(sheet), archive), sentence, [describe(static_change(depth, video)), *doubtful])


def describe(change: float | None) -> str:
    """How steady the depth is, in a sentence."""
    if change is None:
        return "Nothing in the video stands still, so that how steady its depth is cannot be said."
    return f"Where the video stands still, its depth changes by {100 * change:.1f}% of its range from frame to frame."
