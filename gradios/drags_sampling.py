"""What the page of dragged points asks for, within its limits, and how it is sampled."""

from dataclasses import dataclass
from pathlib import Path

from gradios.desk import Desk, Made
from gradios.results import doubts, keep_input, pack, start_run
from gradios.running import Reporter
from gradios.script import SVD_BASE, weight
from gradios.track_pad import read_pad, to_text
from gradios.uploads import check_choice, check_image
from gradios.videos import as_flags, enlarged, size_of, video_flags, watch_steps
from pipelines.drags import METHODS, load_drag_pipeline, path_errors, sample_drag, write_drag
from pipelines.sizes import fit_image
from run_models import run_trajectory
from utils.flow.results import color_video
from utils.images import image_size, read_image
from utils.tracks.drawing import growing_paths
from utils.tracks.files import read_track_file
from utils.tracks.found import find_paths
from utils.video import to_frames, write_video

SCRIPT = "run_models/run_trajectory.py"


@dataclass(frozen=True)
class Weights:
    """
    Attributes:
        base: Folder or hub name of a Stable Video Diffusion.
        controlnet: Folder of `train_trajectory.py`.
        adapter: Joint adapter of `train_flow_video.py`.
    """

    base: str = weight("model_dir", SVD_BASE, "tiny_svd")
    controlnet: str = weight("controlnet", "folder of train_trajectory.py", "trajectory")
    adapter: str = weight("adapter", "joint adapter of train_flow_video.py", "flow_video")

    def of(self, method: str) -> tuple[str, str]:
        """The flag and the value of what a method needs."""
        return ("controlnet", self.controlnet) if method == "controlnet" else ("adapter", self.adapter)


@dataclass(frozen=True)
class Asked:
    """
    Attributes:
        image: File of the first frame.
        tracks: Content of a file of tracks.
        method: One of `METHODS`.
        settings: Values of `gradios.videos.add_video_settings`.
    """

    image: str
    tracks: dict
    method: str
    settings: dict

    @classmethod
    def read(cls, image, tracks, camera, camera_speed, method, **settings) -> "Asked":
        """What the page sends; raises ValueError or OSError for what is not allowed."""
        if not check_image("The first frame", image):
            raise ValueError("There is no first frame: give an image, or try an example.")
        content = read_pad(tracks, camera or "", camera_speed)
        return cls(image, content, check_choice("method", method, METHODS), settings)

    def flags(self, weights: Weights, place: str = "") -> list[str]:
        """Flags of `run_trajectory.py`, with the files of the run at a place."""
        name, value = weights.of(self.method)
        suffix = Path(self.image).suffix.lower() or ".png"
        files = {"input_image": f"{place}inputs/first_frame{suffix}", "tracks": f"{place}inputs/tracks.json"}
        values = files | {"method": self.method, "model_dir": weights.base, name: value}
        return as_flags(values) + video_flags(self.settings)


def load(base: str, method: str, weights: str, device: str | None, dtype: str):
    """The pipeline of a method."""
    pipe = load_drag_pipeline(base, method, weights, device, dtype)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def make(desk: Desk, weights: Weights, asked: Asked, folder: Path, report: Reporter) -> Made:
    """Sample what was asked for; files go into the folder."""
    keep_input(folder, asked.image, "first_frame")
    (folder / "inputs/tracks.json").write_text(to_text(asked.tracks), encoding="utf-8")
    args = read_flags(asked, weights, folder)
    file = read_track_file(args.tracks, *image_size(args.input_image))
    own = weights.of(asked.method)[1]
    run = start_run(SCRIPT, asked.flags(weights), vars(args), [weights.base, own])
    with desk.slot.using(load, weights.base, asked.method, own, desk.device, desk.dtype) as pipe:
        image = fit_image(pipe, read_image(args.input_image))
        tracks = file.on_video(args.num_frames or pipe.unet.config.num_frames, image.shape[-1], image.shape[-2])
        options = run_trajectory.options(args) | {"on_step": watch_steps(report, pipe)}
        video, flow = sample_drag(pipe, image, tracks, asked.method, **options)
    found = find_paths(video, tracks.points[0])
    files = write_drag(folder, video, flow, image, tracks, found, args.fps)
    files += write_players(folder, video, flow, tracks, found, args.fps)
    errors = path_errors(tracks, found)
    facts = {"frames": len(video), "path_errors": errors} | size_of(video)
    archive = pack(folder, run, files, "duet_trajectory", **facts)
    notes = [describe(name, *error) for name, error in errors.items()]
    doubtful = doubts(weights.base, image, "The first frame")
    shown = tuple(str(folder / name) for name in ("shown_paths.mp4", "shown_video.mp4", "shown_flow.mp4", "tracks.png"))
    sentence = f"{len(video)} frames of {video.shape[-1]}×{video.shape[-2]} pixels, seed {args.seed},"
    return Made((*shown, archive), sentence, notes + doubtful)


def read_flags(asked: Asked, weights: Weights, folder: Path):
    """The arguments of the run script, checked by it."""
    return run_trajectory.read_args([*asked.flags(weights, f"{folder}/"), f"--output_dir={folder / 'again'}"])


def write_players(folder: Path, video, flow, tracks, found, fps: float) -> list[Path]:
    """Write the videos that the page plays: with the paths, alone, and its flow."""
    frames = {
        "paths": growing_paths(video, tracks.points, found),
        "video": enlarged(to_frames(video)),
        "flow": enlarged(color_video(flow.detach().float().cpu().numpy())),
    }
    files = [folder / f"shown_{name}.mp4" for name in frames]
    for path, shown in zip(files, frames.values(), strict=True):
        write_video(path, shown, fps)
    return files


def describe(name: str, number: int, error: float) -> str:
    """How far points of a kind are from what was wanted, in a sentence."""
    points = f"{number} {name} point{'s' if number != 1 else ''}"
    return f"{points}: {error:.1f} pixels from the wanted path on average, as optical flow finds them."
