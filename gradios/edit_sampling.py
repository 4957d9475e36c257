"""What the page of edited videos asks for, within its limits, and how it is sampled."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gradios.desk import Desk, Made
from gradios.results import doubts, keep_input, pack, start_run
from gradios.running import Reporter
from gradios.script import SD_BASE, SVD_BASE, weight
from gradios.uploads import check_choice, check_number, check_text, check_video, check_whole
from gradios.videos import as_flags, enlarged, size_of, video_flags, watch_steps
from pipelines.edit_folder import EditFolder
from pipelines.edit_models import EditModels
from pipelines.edit_video import FillSettings, edit_keyframes, fill_gaps
from pipelines.pipeline_keyframe_edit import AUTO, STRUCTURES, EditSettings
from run_models import run_keyframe_edit
from utils.arguments import parse_args
from utils.diffusion.sampling import VideoSampling
from utils.video import to_frames, write_video

SCRIPT = "run_models/run_keyframe_edit.py"
MAX_CLIP, MAX_INTERVAL, MAX_EDIT_STEPS = 96, 32, 100


@dataclass(frozen=True)
class Weights:
    """
    Attributes:
        image_model, base: Folders or hub names of a Stable Diffusion and a Stable Video Diffusion.
        depth_adapter: Joint adapter of depth; empty for the one that comes with the project.
        adapter: Folder of `train_svd_trans.py`; empty: what the command takes for this base.
    """

    image_model: str = weight("image_model", SD_BASE, "tiny_sd")
    base: str = weight("model_dir", SVD_BASE, "tiny_svd")
    depth_adapter: str = weight("depth_adapter", "joint adapter of train_depth_image.py (default: that for tiny_sd)")
    adapter: str = weight("adapter", "folder of train_svd_trans.py (default: as run_keyframe_edit.py)")


@dataclass(frozen=True)
class Asked:
    """
    Attributes:
        video: File.
        own: Flags that this page alone has, by name.
        settings: Values of `gradios.videos.add_video_settings`.
    """

    video: str
    own: dict
    settings: dict

    @classmethod
    def read(
        cls,
        video,
        source_prompt,
        prompt,
        find_mask,
        keyframe_interval,
        structure,
        edit_steps,
        edit_guidance_scale,
        **settings,
    ) -> "Asked":
        """What the page sends; raises ValueError or OSError for what is not allowed."""
        if not check_video("The video", video, MAX_CLIP):
            raise ValueError("There is no video: give one, or try an example.")
        own = {
            "source_prompt": check_text("The source prompt", source_prompt),
            "prompt": check_text("The prompt", prompt),
            "keyframe_interval": check_whole("keyframe_interval", keyframe_interval, 1, MAX_INTERVAL),
            "structure": check_choice("structure", structure, STRUCTURES),
            "edit_steps": check_whole("edit_steps", edit_steps, 1, MAX_EDIT_STEPS),
            "edit_guidance_scale": check_number("edit_guidance_scale", edit_guidance_scale, 0, 20),
        }
        return cls(video, own | ({"mask": AUTO} if find_mask else {}), settings)

    def flags(self, weights: Weights, video: str) -> list[str]:
        """Flags of `run_keyframe_edit.py`; the frame rate is that of the video."""
        named = {"image_model": weights.image_model, "model_dir": weights.base}
        depth = weights.depth_adapter if "depth" in self.own["structure"] else ""
        others = {"depth_adapter": depth, "adapter": weights.adapter}
        named |= {name: value for name, value in others.items() if value}
        shared = [flag for flag in video_flags(self.settings) if not flag.startswith("--fps=")]
        return as_flags({"input_video": video} | self.own | named) + shared


def load_images(models: EditModels):
    """The pipeline that edits keyframes."""
    return models.load_images()


def load_videos(models: EditModels):
    """The pipeline that fills gaps."""
    pipe = models.load_videos()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def make(desk: Desk, weights: Weights, asked: Asked, folder: Path, report: Reporter) -> Made:
    """Edit what was sent; files go into the folder."""
    kept, root = keep_input(folder, asked.video, "video"), folder / "edit"
    argv = [*asked.flags(weights, str(folder / kept)), f"--output_dir={root}", f"--dtype={desk.dtype}"]
    args = parse_args(run_keyframe_edit.parser(), argv + ([f"--device={desk.device}"] if desk.device else []))
    edit_settings, fill = EditSettings.from_args(args), FillSettings.from_args(args)
    clip, place = run_keyframe_edit.check(args, edit_settings), EditFolder(root)
    models = EditModels.from_args(args, edit_settings)
    run = start_run(
        SCRIPT, asked.flags(weights, kept), vars(args) | {"adapter": models.adapter}, filter(None, models.names)
    )
    edit, most = run_keyframe_edit.read_inputs(args, clip, place, fill)
    place.open(vars(args))
    with desk.slot.using(load_images, models) as pipe:
        pipe.progress_bar = partial(reported, report)
        texts = args.prompt, args.source_prompt, args.negative_prompt
        edit_keyframes(edit, lambda: pipe, *texts, edit_settings, fill.together)
    fps = args.fps or clip.fps
    with desk.slot.using(load_videos, models) as pipe:
        steps = watch_steps(report, pipe, "Frames between keyframes")
        video = fill_gaps(
            edit, lambda: pipe, fill, most, on_step=steps, **VideoSampling.from_args(args, fps=fps).options()
        )
    files = run_keyframe_edit.write_results(folder, edit.video, video, fps)
    shown = [folder / "shown_source.mp4", folder / "shown_video.mp4"]
    for path, pixels in zip(shown, (edit.video, video), strict=True):
        write_video(path, enlarged(to_frames(pixels)), fps)
    archive = pack(folder, run, [*files, *shown], "duet_keyframe_edit", frames=len(video), **size_of(video))
    doubtful = doubts(weights.image_model, edit.video[0], "The video")
    sentence = f"{len(video)} frames, {len(edit.keyframes)} edited keyframes, seed {args.seed},"
    return Made((*map(str, shown), str(folder / "frames.png"), archive), sentence, doubtful)


def reported(report: Reporter, iterable: Iterable) -> Iterator:
    """The `progress_bar` of a pipeline that reports its steps."""
    items = list(iterable)
    for k, item in enumerate(items):
        yield item
        report("Keyframes", k + 1, len(items))
