"""What the page of videos with their flow asks for, within its limits, and how it is sampled."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from gradios.desk import Desk, Made
from gradios.results import INPUTS, doubts, keep_input, pack, start_run
from gradios.running import Reporter
from gradios.script import SVD_BASE, weight
from gradios.uploads import check_choice, check_image, check_number, check_video
from gradios.videos import as_flags, enlarged, size_of, video_flags, watch_steps
from run_models import run_flow_video
from utils.arguments import parse_args
from utils.data.inputs import read_steps
from utils.flow.results import color_video
from utils.formats.folders import natural_key
from utils.video import to_frames, write_video
from utils.weights.lora import is_lora

SCRIPT = "run_models/run_flow_video.py"
MODES = tuple(run_flow_video.NEEDS)
FLOW_SUFFIXES = (".flo", ".npy")
MAX_FLOWS = 64


@dataclass(frozen=True)
class Weights:
    """
    Attributes:
        base: Folder or hub name of a Stable Video Diffusion.
        adapter: Joint adapter of `train_flow_video.py`.
    """

    base: str = weight("model_dir", SVD_BASE, "tiny_svd")
    adapter: str = weight("adapter", "joint adapter of train_flow_video.py", "flow_video")


@dataclass(frozen=True)
class Asked:
    """
    Attributes:
        mode: One of `MODES`.
        image, video: Files, or None.
        flows: Files of flow, one for each step.
        flow_strength: Share of the steps that the flow takes in the mode "coarse".
        settings: Values of `gradios.videos.add_video_settings`.
    """

    mode: str
    image: str | None
    flows: tuple[str, ...]
    video: str | None
    flow_strength: float
    settings: dict

    @classmethod
    def read(cls, mode, image, flows, video, flow_strength, **settings) -> "Asked":
        """What the page sends; raises ValueError or OSError for what is not allowed."""
        check_choice("mode", mode, MODES)
        needs_image, needs_flow = mode != "video_to_flow", mode in ("flow_to_video", "coarse")
        image = check_image("The first frame", image) if needs_image else None
        video = check_video("The video", video) if not needs_image else None
        flows = check_flows(flows or []) if needs_flow else ()
        for needed, given, name in (
            (needs_image, image, "a first frame"),
            (needs_flow, flows, "flow"),
            (not needs_image, video, "a video"),
        ):
            if needed and not given:
                raise ValueError(f"This way of sampling needs {name}: give it, or try an example.")
        return cls(mode, image, flows, video, check_number("flow_strength", flow_strength, 0, 1), settings)

    def keep(self, folder: Path) -> dict[str, str]:
        """Copy what is given into the folder of a run; returns the flags with the names there."""
        flags = {}
        if self.image:
            flags["input_image"] = keep_input(folder, self.image, "first_frame")
        if self.video:
            flags["input_video"] = keep_input(folder, self.video, "video")
        if self.flows:
            (folder / INPUTS / "flow").mkdir(parents=True, exist_ok=True)
            for k, path in enumerate(self.flows):
                shutil.copyfile(path, folder / INPUTS / "flow" / f"flow_{k:03d}{Path(path).suffix.lower()}")
            flags["input_flow"] = f"{INPUTS}/flow"
        return flags

    def flags(self, weights: Weights, files: dict[str, str]) -> list[str]:
        """Flags of `run_flow_video.py`."""
        values = {"mode": self.mode} | files | {"model_dir": weights.base}
        values |= {} if is_shipped(weights.adapter) else {"adapter": weights.adapter}
        values |= {"flow_strength": self.flow_strength} if self.mode == "coarse" else {}
        return as_flags(values) + video_flags(self.settings, self.unread(weights))

    def unread(self, weights: Weights) -> tuple[str, ...]:
        """Settings that the script would refuse."""
        if self.mode != "video_to_flow":
            return ()
        more = run_flow_video.UNREAD_BY_ESTIMATES if estimates(self.mode, weights.adapter) else ()
        return ("max_guidance_scale", *more)


def is_shipped(adapter: str) -> bool:
    """Whether it is the adapter that the script takes by itself, and with which it has one for estimates as well."""
    return Path(adapter).resolve() == Path(run_flow_video.ADAPTER).resolve()


def estimates(mode: str, adapter: str) -> bool:
    """Whether the flow of a video is estimated in one step."""
    return mode == "video_to_flow" and (is_shipped(adapter) or is_lora(adapter))


def check_flows(paths) -> tuple[str, ...]:
    """Files of flow in the natural order of their names; raises ValueError for others, several kinds, or too many."""
    paths = sorted(map(str, paths), key=lambda path: natural_key(Path(path).name))
    if len(paths) > MAX_FLOWS:
        raise ValueError(f"There are {len(paths)} files of flow: send at most {MAX_FLOWS}.")
    if wrong := [path for path in paths if Path(path).suffix.lower() not in FLOW_SUFFIXES]:
        raise ValueError(f"{Path(wrong[0]).name} is no file of flow: send .flo or .npy files, one for each step.")
    if len(kinds := sorted({Path(path).suffix.lower() for path in paths})) > 1:
        raise ValueError(f"The files of flow are of the kinds {' and '.join(kinds)}: send those of one kind.")
    return tuple(paths)


def load(base: str, adapter: str, device: str | None, dtype: str):
    """The pipeline of a base with a joint adapter of flow."""
    pipe = run_flow_video.load(base, adapter, device, dtype)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def make(desk: Desk, weights: Weights, asked: Asked, folder: Path, report: Reporter) -> Made:
    """Sample what was asked for; files go into the folder."""
    kept = asked.keep(folder)
    placed = {name: str(folder / path) for name, path in kept.items()}
    argv = [*asked.flags(weights, placed), f"--output_dir={folder / 'again'}"]
    args = run_flow_video.with_defaults(parse_args(run_flow_video.parser(), argv))
    run_flow_video.check(args)
    run = start_run(SCRIPT, asked.flags(weights, kept), vars(args), [args.model_dir, args.adapter])
    flow = read_steps(args.input_flow, args.num_frames and args.num_frames - 1) if args.input_flow else None
    with desk.slot.using(load, args.model_dir, args.adapter, desk.device, desk.dtype) as pipe:
        image, known = run_flow_video.fit_inputs(args, pipe, flow)
        options = run_flow_video.sampling_options(args, pipe, flow, known)
        steps = watch_steps(report, pipe)
        out = pipe(image[None], **known, **options, on_step=steps, output_type="pt")
    video, flow = out.frames[0] * 2 - 1, out.flows[0]
    files = run_flow_video.write_pair(folder, video, flow, image, args.fps) + write_players(
        folder, video, flow, args.fps
    )
    archive = pack(folder, run, files, "duet_flow_video", frames=len(video), **size_of(video))
    doubtful = doubts(weights.base, image, "The first frame")
    shown = [str(folder / name) for name in ("shown_video.mp4", "shown_flow.mp4", "flow.png")]
    seed = "" if estimates(asked.mode, weights.adapter) else f" seed {args.seed},"
    sentence = f"{len(video)} frames of {video.shape[-1]}×{video.shape[-2]} pixels with their flow,{seed}"
    return Made((*shown, archive), sentence, doubtful)


def write_players(folder: Path, video: torch.Tensor, flow: torch.Tensor, fps: float) -> list[Path]:
    """Write the videos that the page plays."""
    files = [folder / "shown_video.mp4", folder / "shown_flow.mp4"]
    write_video(files[0], enlarged(to_frames(video)), fps)
    write_video(files[1], enlarged(color_video(flow.detach().float().cpu().numpy())), fps)
    return files
