"""The variants: what each one is, and its files. `python -m utils.variants` prints the table of the README."""

from dataclasses import dataclass
from pathlib import Path

from utils.arguments import make_parser, parse_args, run_script


@dataclass(frozen=True)
class Variant:
    """One thing that Duet trains. Its name runs through all file names.

    Attributes:
        name: Key in `VARIANTS`.
        summary: What it is, in a line.
        docs: Page in `docs/`.
        pipeline: File in `pipelines/`; None where the one of another variant or of diffusers serves.
        trained_by: Variant whose training makes its weights; None for its own.
        run_by: Variant whose `run_models/run_{run_by}.py` runs it; None for its own.
        weights: Folder in `weights/` that comes with the project; None where there is none.
        headline: Its one figure, with what it is compared to; a page or card has it with its command and interval.
    """

    name: str
    summary: str
    docs: str
    pipeline: str | None = None
    trained_by: str | None = None
    run_by: str | None = None
    weights: str | None = None
    headline: str = "not measured yet"

    @property
    def train(self) -> str:
        return f"train_models/train_{self.trained_by or self.name}.py"

    @property
    def run(self) -> str:
        return f"run_models/run_{self.run_by or self.name}.py"

    @property
    def files(self) -> tuple[Path, ...]:
        """All files and folders of the variant, relative to the repository."""
        script = f"train_scripts/train_{self.trained_by or self.name}.sh"
        files = [self.train, self.run, script, f"docs/{self.docs}"]
        files += [f"pipelines/{self.pipeline}"] if self.pipeline else []
        files += [f"weights/{self.weights}"] if self.weights else []
        return tuple(map(Path, files))

    @property
    def row(self) -> str:
        """Its row in the table of the README."""
        code = [f"[train]({self.train})", f"[run]({self.run})"]
        code += [f"[pipeline](pipelines/{self.pipeline})"] if self.pipeline else []
        cells = [f"`{self.name}`", f"[{self.summary}](docs/{self.docs})", ", ".join(code)]
        cells += [f"[{self.weights}](weights/{self.weights}/README.md)" if self.weights else "none", self.headline]
        return f"| {' | '.join(cells)} |"


_ALL = (
    Variant(
        "depth_image",
        "images with their depth or edges, by Stable Diffusion, and either from the other",
        docs="depth_image.md",
        pipeline="pipeline_stable_diffusion_joint.py",
        weights="depth_image",
        headline="AbsRel: depth of an image 0.022 (sampled 0.061), a sampled pair 0.072",
    ),
    Variant(
        "svd",
        "videos from an image by Stable Video Diffusion, fine-tuned",
        docs="svd.md",
        pipeline="pipeline_stable_video_diffusion.py",
        headline="a trained base: see `tiny_svd`",
    ),
    Variant(
        "svd_flow",
        "optical flow that may follow an image, by a LoRA on Stable Video Diffusion",
        docs="flow_video.md",
        weights="flow_video",
        headline="moves 0.90 times as much as true flow, which is one of many that may follow an image",
    ),
    Variant(
        "flow_video",
        "videos with their optical flow, and either from the other",
        docs="flow_video.md",
        pipeline="pipeline_stable_video_diffusion_joint.py",
        weights="flow_video",
        headline="video to a given flow: end-point error 0.249 pixels (true clips 0.150); flow to a given video: 0.33 "
        "of the mean motion (DIS 0.34)",
    ),
    Variant(
        "trajectory",
        "videos that follow dragged points, by that joint model or by a ControlNet",
        docs="trajectory.md",
        pipeline="pipeline_trajectory.py",
        weights="trajectory",
        headline="1.4 pixels from the path on average (the ControlNet 1.7), in drags 12 to 32 pixels long",
    ),
    Variant(
        "svd_controlnet",
        "videos that follow depth, segmentation, edges or flow, by ControlNets over time",
        docs="svd_controlnet.md",
        pipeline="pipeline_stable_video_diffusion_controlnet.py",
        weights="svd_controlnet",
        headline="1 - IoU to the given segmentation 0.164 (without the control 0.287)",
    ),
    Variant(
        "svd_trans",
        "transition between two frames: all frames from a first to a last one",
        docs="svd_trans.md",
        pipeline="pipeline_stable_video_diffusion_trans.py",
        weights="svd_trans",
        headline="PSNR of the middle frame 28.6 dB (training-free 27.3, interpolation by flow 34.1)",
    ),
    Variant(
        "keyframe_edit",
        "videos edited by a prompt: keyframes by Stable Diffusion, what lies between by Stable Video Diffusion",
        docs="keyframe_edit.md",
        pipeline="pipeline_keyframe_edit.py",
        trained_by="svd_trans",
        weights="svd_trans",
        headline="FVD 2.7 to the true edit (each frame alone 16.5)",
    ),
    Variant(
        "trip",
        "videos from an image with the image noise prior of TRIP",
        docs="trip.md",
        pipeline="pipeline_trip.py",
        weights="trip",
        headline="a trial: the first frame exact in latents, Fréchet video distance 42",
    ),
    Variant(
        "tiny_sd",
        "a small Stable Diffusion, trained from nothing on the procedural world",
        docs="scenes.md",
        run_by="depth_image",
        weights="tiny_sd",
        headline="93.5% of the objects have the right colour",
    ),
    Variant(
        "tiny_svd",
        "a small Stable Video Diffusion, trained from nothing on clips of that world",
        docs="scenes.md",
        run_by="svd",
        weights="tiny_svd",
        headline="Fréchet video distance 6.3 (stills 50.3)",
    ),
)

VARIANTS: dict[str, Variant] = {variant.name: variant for variant in _ALL}


def table() -> str:
    """The table of the README, as Markdown."""
    head = ["| variant | what it is | code | weights | measured |", "|---|---|---|---|---|"]
    return "\n".join([*head, *(variant.row for variant in VARIANTS.values())])


def parser():
    return make_parser(__doc__)


def main(argv=None) -> None:
    parse_args(parser(), argv)
    print(table())


if __name__ == "__main__":
    run_script(main)
