"""Images that belong to the frames of a clip, one for each: a folder of numbered images, or a video."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from utils.data.clip_frames import ClipFrames
from utils.data.clip_geometry import ClipGeometry
from utils.data.video_records import VideoRecord
from utils.depth import normalize_disparity, read_disparity, settle_kind
from utils.files import is_file, is_folder
from utils.messages.words import count
from utils.video import to_pixels

REMEDY = "if it holds millimetres, write it with utils.depth.write_depth, which says so"
NEAREST = ("segmentation",)  # resized without mixing colours


class ControlFrames:
    """Control frames of a folder of images or of a video, read when they are asked for.

    Args:
        path: A folder or a video.
        depth: Whether they hold depth: 16 bits, floats or gray; otherwise they are images of any colours.

    Raises:
        FileNotFoundError, ValueError: There are none, or they cannot be read.
    """

    def __init__(self, path: str | Path, depth: bool = False):
        self.path, self.depth = Path(path), depth
        if not is_folder(self.path) and not is_file(self.path):
            raise FileNotFoundError(f"There is no video and no folder of images {path}.")
        self.frames = ClipFrames(VideoRecord(self.path.name, self.path, fps=1.0))

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the first one."""
        return next(self.frames.read([0])).shape[:2]

    def read(self, numbers: Sequence[int]) -> torch.Tensor:
        """Images (F, 3, H, W) in [-1, 1] of ascending numbers; of depth the disparity (F, 1, H, W).

        Disparity is normalised over what is read: nearest 1, farthest -1. A video, and gray images that do not say
        what they hold, are read as disparity: brighter is nearer.
        """
        if self.depth:
            disparity = self._read_disparity(numbers)
            return torch.from_numpy(normalize_disparity(disparity)).float()[:, None]
        return to_pixels(np.stack(list(self.frames.read(numbers))))

    def _read_disparity(self, numbers: Sequence[int]) -> np.ndarray:
        if self.frames.files is None:
            return np.stack([frame.mean(axis=-1, dtype=np.float32) for frame in self.frames.read(numbers)])
        files = [self.frames.files[number] for number in numbers]
        values = [read_disparity(file, settle_kind(file, None, "disparity", REMEDY)) for file in files]
        for file, value in zip(files, values, strict=True):
            if value.shape != values[0].shape:
                raise ValueError(f"{file} is of another size than {files[0]}: bring them to one.")
        return np.stack(values)


def read_control(
    record: VideoRecord,
    name: str,
    frames: ClipFrames,
    numbers: Sequence[int],
    geometry: ClipGeometry,
    height: int,
    width: int,
) -> torch.Tensor:
    """Images of a control (F, C, H, W) in [-1, 1] as those of cropped frames; height and width are those before.

    Raises:
        ValueError: They are of another number or size than the frames.
    """
    control = ControlFrames(getattr(record, name), depth=name == "depth")
    if len(control) != len(frames.index):
        has, due = count(len(control), "frame"), count(len(frames.index), "frame")
        raise ValueError(f"{control.path} has {has} and {frames.name} {due}: a {name} has one for each frame.")
    images = control.read([frames.numbers[number] for number in numbers])
    if images.shape[-2:] != (height, width):
        h, w = images.shape[-2:]
        raise ValueError(f"{control.path} is {w}x{h} and {frames.name} {width}x{height}: bring them to one size.")
    return geometry.apply(images, nearest=name in NEAREST)
