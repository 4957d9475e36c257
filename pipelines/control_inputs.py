"""Controls that users pass to a command: what they are read as, and how they are brought to the video's size."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log
from pathlib import Path

import numpy as np
import torch

from pipelines.sizes import fit_flow
from utils.data.control import CONTROL_CHANNELS, SOURCES, control_images
from utils.data.control_files import NEAREST, ControlFrames
from utils.data.inputs import read_steps
from utils.files import is_folder
from utils.flow import flow_estimator
from utils.formats.folders import list_files
from utils.images import cover
from utils.messages.words import count

FLOW_SUFFIXES = {".flo", ".npy"}
SHAPE_SLACK = 0.05  # difference in the ratio of sides that cropping hides
TWO_VALUED, NEAR_END = 0.97, 0.2  # edges: share of pixels that are nearly black or white


@dataclass(frozen=True)
class ControlInput:
    """A control that is given.

    Attributes:
        kind: Key of `SOURCES`.
        path: Folder of numbered images, video, or file or folder of flow.
    """

    kind: str
    path: str

    @classmethod
    def parse(cls, text: str) -> "ControlInput":
        """Of NAME=PATH.

        Raises:
            ValueError: It is something else.
        """
        kind, _, path = text.partition("=")
        if kind not in SOURCES or not path:
            raise ValueError(f"--control {text}: pass NAME=PATH, NAME {', '.join(SOURCES)}.")
        return cls(kind, path)

    @property
    def holds_flow(self) -> bool:
        """Whether there are vectors of flow at its path, and no frames."""
        path = Path(self.path)
        return bool(list_files(path, FLOW_SUFFIXES)) if is_folder(path) else path.suffix.lower() in FLOW_SUFFIXES

    def open(self) -> "ControlSource":
        """
        Raises:
            FileNotFoundError, ValueError: There is nothing, or it cannot be read.
        """
        if self.kind == "flow" and self.holds_flow:
            return _of_flow(self.path)
        frames = ControlFrames(self.path, depth=self.kind == "depth")
        said, ready = _reading(self.kind, frames)
        return ControlSource(self.kind, self.path, len(frames), frames.size, said, frames, ready)


@dataclass(frozen=True)
class ControlSource:
    """A control that is there, before it is read.

    Attributes:
        num_frames, size: Of what is there; size is height, width.
        said: What it is read as, and what is computed.
        values: Its frames, or its flow (F - 1, 2, H, W); `load` reads the frames.
        ready: Whether the frames are the control itself, and not what it is computed from.
    """

    kind: str
    path: str
    num_frames: int
    size: tuple[int, int]
    said: str
    values: ControlFrames | torch.Tensor
    ready: bool

    def check(self, num_frames: int, shape: tuple[int, int], image: str) -> None:
        """Raises one sentence for a control that is shorter than the video or of another shape than its image.

        Args:
            shape: Height and width of the image, which is called `image`.
        """
        if self.num_frames < num_frames:
            has, due = count(self.num_frames, "frame"), count(num_frames, "frame")
            raise ValueError(f"--control {self.kind}={self.path} has {has} and the video {due}: lower --num_frames.")
        (h, w), (H, W) = self.size, shape
        if abs(log(w * H / (h * W))) > SHAPE_SLACK:
            raise ValueError(
                f"--control {self.kind}={self.path} is {w}x{h} and {image} {W}x{H}: crop one to the shape of the other."
            )

    def load(self, num_frames: int) -> "ControlSource":
        """With its first frames in memory: what cannot be decoded is refused before networks are loaded."""
        if isinstance(self.values, torch.Tensor):
            return self
        return replace(self, values=self.values.read(range(num_frames)))

    def read(self, pipe, num_frames: int, size: tuple[int, int]) -> torch.Tensor:
        """The control (F, 3, H, W) in [-1, 1] of the first frames, at the size of the video."""
        values = self.load(num_frames).values
        if self.kind == "flow":
            flow = values if self.ready else flow_estimator("dis")(values)
            return control_images("flow", fit_flow(pipe, flow[: num_frames - 1], *size, self.path))
        nearest = self.kind in NEAREST
        images = torch.stack([cover(one, size, nearest) for one in values])
        return images if self.ready else control_images(self.kind, images)


def _of_flow(path: str) -> ControlSource:
    flow = read_steps(path)
    return ControlSource("flow", path, len(flow) + 1, tuple(flow.shape[-2:]), f"the flow in {path}", flow, True)


def _reading(kind: str, frames: ControlFrames) -> tuple[str, bool]:
    """What the frames are read as, and whether they are the control itself."""
    if kind == "flow":
        return f"optical flow, estimated by DIS from the frames of {frames.path}", False
    if kind == "edge":
        if looks_like_edges(next(frames.frames.read([0]))):
            return f"the images of {frames.path}, which are black and white, as edges", True
        return f"Canny edges, found in the frames of {frames.path}", False
    return f"the images of {frames.path}, as {'they are' if kind == 'folder' else kind}", kind != "depth"


def looks_like_edges(frame: np.ndarray) -> bool:
    """Whether an image uint8 (H, W, 3) is nearly black and white, and mostly black."""
    gray = frame.mean(axis=-1) / 255
    colorless = np.ptp(frame.astype(int), axis=-1).max() < 255 * NEAR_END
    ends = np.minimum(gray, 1 - gray) < NEAR_END
    return bool(colorless and ends.mean() > TWO_VALUED and gray.mean() < 0.5)


def check_controlnet(config: dict, kind: str, name: str) -> None:
    """Raises ValueError for a ControlNet, by its configuration, that reads another control.

    name: What the user passed it by.
    """
    channels, reads = config["conditioning_channels"], config.get("conditioning_type")
    if channels != CONTROL_CHANNELS or reads not in (None, kind):
        what = reads or f"an unnamed control of {count(channels, 'channel')}"
        raise ValueError(
            f"--controlnet {name} reads {what}, not {kind}: pass one for {kind}, in the order of --control."
        )


def read_controls(pipe, sources: Sequence[ControlSource], num_frames: int, size: tuple[int, int]) -> list[torch.Tensor]:
    """Controls (1, F, 3, H, W), as the pipeline takes them."""
    return [source.read(pipe, num_frames, size)[None] for source in sources]
