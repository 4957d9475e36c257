"""The variants: what each one is, and the files that belong to it."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Variant:
    """One thing that Duet trains. Its name runs through all file names.

    Attributes:
        name: Key in `VARIANTS`.
        summary: What it is, in a line.
        pipeline: File in `pipelines/`; None where a pipeline of diffusers serves.
        run: Whether `run_models/run_{name}.py` exists; a base is run by the script of a variant that builds on it.
        weights: Folders in `weights/` that it ships.
    """

    name: str
    summary: str
    pipeline: str | None = None
    run: bool = True
    weights: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """All files and folders of the variant, relative to the repository."""
        files = [Path(f"train_models/train_{self.name}.py"), Path(f"train_scripts/train_{self.name}.sh")]
        if self.run:
            files.append(Path(f"run_models/run_{self.name}.py"))
        if self.pipeline:
            files.append(Path("pipelines") / self.pipeline)
        return (*files, *(Path("weights") / folder for folder in self.weights))


_ALL = (
    Variant(
        "depth_image",
        "joint depth and image on Stable Diffusion",
        pipeline="pipeline_stable_diffusion_joint.py",
        weights=("depth_image",),
    ),
    Variant(
        "flow_video",
        "joint optical flow and video on Stable Video Diffusion",
        pipeline="pipeline_stable_video_diffusion_joint.py",
    ),
    Variant(
        "svd",
        "videos from a picture by Stable Video Diffusion, fine-tuned",
        pipeline="pipeline_stable_video_diffusion.py",
    ),
    Variant(
        "svd_flow",
        "optical flow from a picture by Stable Video Diffusion with a LoRA",
    ),
    Variant(
        "svd_trans",
        "frames between a first and a last one by Stable Video Diffusion",
        pipeline="pipeline_stable_video_diffusion_trans.py",
    ),
    Variant(
        "tiny_sd",
        "a small Stable Diffusion trained from nothing on the procedural world",
        run=False,
        weights=("tiny_sd",),
    ),
    Variant(
        "tiny_svd",
        "a small Stable Video Diffusion from nothing, on clips of that world",
        run=False,
        weights=("tiny_svd",),
    ),
    Variant(
        "trajectory",
        "videos that follow dragged points, by the joint model or a ControlNet",
        pipeline="pipeline_trajectory.py",
    ),
    Variant(
        "trip",
        "videos from an image with the image noise prior of TRIP",
        pipeline="pipeline_trip.py",
    ),
)

VARIANTS: dict[str, Variant] = {variant.name: variant for variant in _ALL}
