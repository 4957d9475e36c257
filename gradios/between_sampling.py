"""What the page of frames between two asks for, within its limits, and how it is sampled."""

from dataclasses import dataclass
from pathlib import Path

from gradios.desk import Desk, Made
from gradios.results import doubts, keep_input, pack, start_run
from gradios.running import Reporter
from gradios.script import SVD_BASE, weight
from gradios.uploads import check_image, check_whole
from gradios.videos import as_flags, enlarged, size_of, video_flags, watch_steps
from pipelines.trans_adapter import choose_adapter
from pipelines.trans_images import fit_keyframes, list_keyframes
from run_models import run_svd_trans
from utils.arguments import parse_args
from utils.commands.results import write_png
from utils.pretrained import choose_device
from utils.video import contact_sheet, to_frames, write_video

SCRIPT = "run_models/run_svd_trans.py"
MAX_TOTAL = 64


@dataclass(frozen=True)
class Weights:
    """
    Attributes:
        base: Folder or hub name of a Stable Video Diffusion.
        adapter: Folder of `train_svd_trans.py`; empty: what the command takes for this base.
    """

    base: str = weight("model_dir", SVD_BASE, "tiny_svd")
    adapter: str = weight("adapter", "folder of train_svd_trans.py (default: as run_svd_trans.py)")


@dataclass(frozen=True)
class Asked:
    """
    Attributes:
        images: Files of the keyframes, in order.
        loop: Whether the video returns to the first one.
        total_frames: Of the video; 0: the model's own number for each gap.
        settings: Values of `gradios.videos.add_video_settings`.
    """

    images: tuple[str, ...]
    loop: bool
    total_frames: int
    settings: dict

    @classmethod
    def read(cls, first, middle, last, loop, total_frames, **settings) -> "Asked":
        """What the page sends; raises ValueError or OSError for what is not allowed."""
        names = ("The first frame", "The frame in the middle", "The last frame")
        given = [check_image(name, path) for name, path in zip(names, (first, middle, last), strict=True)]
        if not first or not (last or loop):
            raise ValueError("A first and a last frame are needed: give both, or one and a loop, or try an example.")
        total = check_whole("total_frames", total_frames, 0, MAX_TOTAL)
        return cls(tuple(path for path in given if path), bool(loop), total, settings)

    def flags(self, weights: Weights, files: list[str]) -> list[str]:
        """Flags of `run_svd_trans.py`."""
        values = {"model_dir": weights.base} | ({"adapter": weights.adapter} if weights.adapter else {})
        values |= {"total_frames": self.total_frames} if self.total_frames else {}
        loop = ["--loop"] if self.loop else []
        return [*as_flags(values), *video_flags(self.settings), *loop, "--keyframes", *files]


def load(base: str, adapter: str | None, device: str | None, dtype: str):
    """The pipeline of a base, with an adapter or training-free."""
    pipe = run_svd_trans.load(base, adapter, dtype).to(choose_device(device))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def make(desk: Desk, weights: Weights, asked: Asked, folder: Path, report: Reporter) -> Made:
    """Sample what was asked for; files go into the folder."""
    kept = [keep_input(folder, path, f"keyframe_{k}") for k, path in enumerate(asked.images)]
    argv = asked.flags(weights, [str(folder / name) for name in kept])
    args = parse_args(run_svd_trans.parser(), [f"--output_dir={folder / 'again'}", *argv])
    paths = list_keyframes(args.first, args.last, args.keyframes, args.loop)
    adapter = choose_adapter(weights.base, args.adapter)
    run_svd_trans.check(args, paths, adapter)
    run = start_run(SCRIPT, asked.flags(weights, kept), vars(args), [weights.base, *filter(None, [adapter])])
    with desk.slot.using(load, weights.base, adapter, desk.device, desk.dtype) as pipe:
        keyframes = fit_keyframes(pipe, paths, args.height, args.width)
        video = run_svd_trans.sample(pipe, keyframes, args, on_step=watch_steps(report, pipe, "Frames in between"))
    files = [folder / "video.mp4", write_png(folder / "frames.png", contact_sheet(video)), folder / "shown_video.mp4"]
    write_video(files[0], video, args.fps)
    write_video(files[2], enlarged(to_frames(video)), args.fps)
    archive = pack(folder, run, files, "duet_interpolation", frames=len(video), **size_of(video))
    doubtful = doubts(weights.base, keyframes[0], "The first frame")
    sentence = f"{len(video)} frames of {video.shape[-1]}×{video.shape[-2]} pixels, seed {args.seed},"
    return Made((str(files[2]), str(files[1]), archive), sentence, doubtful)
