"""Settings of a sampling: flags, pipelines, validations and benchmarks read these fields. Add a new one here.

sampling = VideoSampling.from_args(args)
pipe(image, **sampling.options(), generator=generator)
"""

import argparse
import math
import shutil
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from utils.arguments import check_needs, parse_args
from utils.commands.settings import Settings, about, add_settings
from utils.diffusion.guidance import Guidance, guidance_over_frames
from utils.formats.text import read_json
from utils.motion_helper import MAX_BUCKET

SAMPLING_FILE = "sampling.json"
OWN_DEFAULTS = f"Weights may bring sampling defaults of their own (their {SAMPLING_FILE}), in place of those above."
TIED = ("negative_motion_bucket_id", "solver_order", "eta")  # fields that go with some values of others alone

GUIDANCE = ("min_guidance_scale", "guidance_min_sigma", "guidance_max_sigma", "guidance_parallel")

PerSample = float | Sequence[float] | torch.Tensor  # one for all samples of a batch, or (B,)


@dataclass(frozen=True)
class VideoSampling(Settings):
    """How Stable Video Diffusion samples.

    Raises:
        ValueError: A value is out of its range or not finite, the interval of guidance is empty,
            negative_motion_bucket_id is given and there is no guidance, or eta with a solver of order 2.
    """

    num_inference_steps: int = field(default=25, metadata=about("denoising steps", int, low=1))
    solver_order: int = field(
        default=1, metadata=about("order of the solver: 1 is Euler, 2 is DPM-Solver++", int, choices=(1, 2))
    )
    eta: float = field(
        default=0.0,
        metadata=about(
            "eta of DDIM, 0 to 1: how much of the noise each step of Euler draws anew; 0: none", low=0, high=1
        ),
    )
    min_guidance_scale: float = field(
        default=1.0, metadata=about("guidance scale of the first frame, 0 or more", low=0)
    )
    max_guidance_scale: float = field(
        default=3.0,
        metadata=about("guidance scale of the last frame, linear in between; 1 or less: no guidance", low=0),
    )
    guidance_min_sigma: float = field(
        default=0.0,
        metadata=about(
            "lowest noise level (sigma) with guidance, for guidance in an interval (arXiv 2404.07724)", low=0
        ),
    )
    guidance_max_sigma: float | None = field(
        default=None, metadata=about("highest noise level (sigma) with guidance", unset="no limit", above=0)
    )
    guidance_parallel: float = field(
        default=1.0,
        metadata=about(
            "share of the guidance parallel to the estimate that is kept, 0 to 1: projected guidance (arXiv "
            "2410.02416) at 0",
            low=0,
            high=1,
        ),
    )
    still_threshold: float = field(
        default=0.0,
        metadata=about(
            "distance of a video's latents from those of its first frame up to which a place stands still, and keeps "
            "what the first frame has; 0: every place may change",
            low=0,
        ),
    )
    fps: PerSample = field(
        default=7,
        metadata=about("frames per second of the video, also a condition of the model", above=0, per_sample=True),
    )
    motion_bucket_id: PerSample = field(
        default=127,
        metadata=about(
            f"how much motion, 0 to {MAX_BUCKET}, a condition of the model", low=0, high=MAX_BUCKET, per_sample=True
        ),
    )
    motion_bucket_scale: float = field(
        default=1.0,
        metadata=about(
            "factor of --motion_bucket_id, 0 or more, for a model that moves less or more than its bucket says; at "
            f"most {MAX_BUCKET} is passed on",
            low=0,
        ),
    )
    negative_motion_bucket_id: float | None = field(
        default=None,
        metadata=about(
            f"motion bucket of the unconditional prediction, 0 to {MAX_BUCKET}; one below --motion_bucket_id makes "
            "things move more",
            unset="--motion_bucket_id",
            low=0,
            high=MAX_BUCKET,
        ),
    )
    noise_aug_strength: PerSample = field(
        default=0.02,
        metadata=about(
            "standard deviation of the noise added to the conditioning image, 0 or more", low=0, per_sample=True
        ),
    )

    def __post_init__(self):
        super().__post_init__()
        if self.solver_order == 2 and self.eta > 0:
            raise ValueError(f"eta {self.eta:g} goes with steps of Euler: pass a solver_order of 1, or an eta of 0.")
        if self.guidance_max_sigma is not None and self.guidance_max_sigma < self.guidance_min_sigma:
            raise ValueError(
                f"guidance_max_sigma {self.guidance_max_sigma:g} is below guidance_min_sigma "
                f"{self.guidance_min_sigma:g}: raise the one or lower the other."
            )
        if self.negative_motion_bucket_id is not None and not self.guided:
            raise ValueError(
                f"negative_motion_bucket_id {self.negative_motion_bucket_id:g} needs guidance: "
                "pass a max_guidance_scale above 1."
            )

    @property
    def guided(self) -> bool:
        """Whether there is classifier-free guidance."""
        return self.max_guidance_scale > 1

    @property
    def scaled_bucket(self) -> torch.Tensor:
        """The motion bucket that the model is given, float32: a scalar, or (B,)."""
        return (self.motion_bucket_scale * torch.tensor(self.motion_bucket_id, dtype=torch.float32)).clamp(
            max=MAX_BUCKET
        )

    def guidance(self, num_frames: int) -> Guidance:
        """The guidance of videos of F frames."""
        if not self.guided:
            return Guidance()
        scale = guidance_over_frames(num_frames, self.min_guidance_scale, self.max_guidance_scale)
        highest = math.inf if self.guidance_max_sigma is None else self.guidance_max_sigma
        return Guidance(scale, interval=(self.guidance_min_sigma, highest), parallel=self.guidance_parallel)


@dataclass(frozen=True)
class FlowSampling(Settings):
    """How a joint model of video and flow samples the flow, besides `VideoSampling`, which is the video's."""

    flow_solver_order: int = field(
        default=2,
        metadata=about(
            "order of the flow's solver: 1, Euler, underestimates motion; 2 is DPM-Solver++", int, choices=(1, 2)
        ),
    )
    flow_guidance_scale: float | None = field(
        default=None,
        metadata=about(
            "guidance scale of flow that is sampled before its video, above 0; 1 or less: no guidance",
            unset="1.1, or 1 for adapters trained with --fixed_motion_bucket",
            above=0,
        ),
    )
    flow_first: bool | None = field(
        default=None,
        metadata=about(
            "sample the flow, without --negative_motion_bucket_id, then the video conditioned on it; otherwise both at "
            "once",
            bool,
            unset="whether the adapter was trained to",
        ),
    )
    joint_guidance_scale: float = field(default=0.0, metadata=about("guidance scale of the joint attention; 0: none"))
    flow_strength: float | None = field(
        default=None,
        metadata=about(
            "share of the denoising steps, 0 to 1, that a given flow goes through: 0 keeps it, 1 ignores it",
            unset="0 with a known flow, 1 without",
            low=0,
            high=1,
        ),
    )


@dataclass(frozen=True)
class ImageSampling(Settings):
    """How a joint model of images and conditions on Stable Diffusion samples."""

    num_inference_steps: int = field(default=50, metadata=about("denoising steps", int, low=1))
    guidance_scale: float = field(default=7.5, metadata=about("guidance scale of the prompt; 1 or less: no guidance"))
    condition_guidance_scale: float = field(
        default=0.0, metadata=about("guidance scale of the joint attention; 0: none")
    )
    eta: float = field(default=0.0, metadata=about("share of fresh noise in the steps of DDIM", low=0))


def add_sampling_arguments(
    group, kind: type[Settings] = VideoSampling, leave_out: Collection[str] = (), **defaults
) -> None:
    """Add a flag for each field of `VideoSampling`, or of another class of this file; see `add_settings`."""
    add_settings(group, kind, leave_out, **defaults)


def model_sampling(folder: str | Path) -> dict:
    """Values that a model's own `sampling.json` has in place of the defaults of `VideoSampling`; none without that
    file.

    Raises:
        ValueError: The file is no JSON object of fields, or a value is out of its range.
    """
    path = Path(folder, SAMPLING_FILE)
    if not path.is_file():
        return {}
    try:
        values = read_json(path)
        VideoSampling(**values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a JSON object of fields of VideoSampling: {error}") from error
    return values


def common_sampling(folders: Iterable[str | Path]) -> dict:
    """Values in which the `sampling.json` of all folders agree; one without the file has none."""
    first, *others = map(model_sampling, folders)
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}


def keep_sampling(base: str | Path, folder: str | Path) -> None:
    """Give a model in `folder` that was trained from `base` the base's own `sampling.json`, if there is one."""
    if (path := Path(base, SAMPLING_FILE)).is_file():
        shutil.copyfile(path, Path(folder, SAMPLING_FILE))


def parse_sampling_args(
    parser: argparse.ArgumentParser,
    argv: list[str] | None = None,
    own: Callable[[argparse.Namespace], dict] = lambda args: model_sampling(args.model_dir),
    read=VideoSampling.from_args,
) -> argparse.Namespace:
    """`parse_args` with defaults of the weights' own, but for those that do not go with what is typed.

    Args:
        own: From arguments to the defaults of the weights that they name, fields of `VideoSampling`.
        read: From arguments to a `VideoSampling`.
    """
    parser.epilog = parser.epilog or OWN_DEFAULTS
    args = parse_args(parser, argv)
    defaults = {name: value for name, value in own(args).items() if hasattr(args, name)}
    tied = {name: defaults.pop(name) for name in TIED if name in defaults}
    parser.set_defaults(**defaults)
    typed = read(parse_args(parser, argv), negative_motion_bucket_id=None)
    if not typed.guided:
        tied.pop("negative_motion_bucket_id", None)
    if typed.solver_order == 2:
        tied.pop("eta", None)
    if typed.eta > 0:
        tied.pop("solver_order", None)
    parser.set_defaults(**tied)
    args = parse_args(parser, argv)
    check_guidance(parser, args, typed)
    return args


def check_guidance(parser: argparse.ArgumentParser, args: argparse.Namespace, sampling: VideoSampling) -> None:
    """Raises ValueError for a flag of the guidance where there is none."""
    scale = "max_guidance_scale" if hasattr(args, "max_guidance_scale") else "guidance_scale"
    off = getattr(args, "min_guidance_scale", None)  # of 1 or less: no guidance either
    names = [name for name in GUIDANCE if name != "min_guidance_scale" or (off is not None and off > 1)]
    check_needs(parser, args, [(names, lambda args: sampling.guided, f"--{scale} above 1")])
