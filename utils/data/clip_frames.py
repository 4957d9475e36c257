"""The frames of a record, whether they lie in a video file, in a tar or in a folder of images."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import numpy as np

from utils.data.files import Member
from utils.data.rows import check_rate
from utils.data.video_records import FRAME_FOLDER_FPS, VideoRecord
from utils.files import is_file, is_folder
from utils.formats.folders import IMAGE_SUFFIXES, list_files
from utils.images import read_image
from utils.video import FrameIndex, decode, index_frames


class ClipFrames:
    """Frames counted at a rate.

    Args:
        record: The clip.
        fps: Rate to count at: frame k is the one nearest to k / fps seconds. The clip's own, by default.

    Raises:
        FileNotFoundError, ValueError: The clip is missing, or cannot be read.
    """

    def __init__(self, record: VideoRecord, fps: float | None = None):
        self.name = str(record.video)
        if fps is not None:
            check_rate(self.name, fps)
        self.source = _source(record)
        self.files: list[Path] | None = None
        if isinstance(record.video, Path) and is_folder(record.video):
            self.files = list_frames(record.video)
            self.index = _index(record, len(self.files))
        else:
            self.index = index_frames(self.source)
        self.numbers = self.index.resample(fps)
        self.fps = float(fps or (record.fps if self.files else self.index.fps))

    def __len__(self) -> int:
        return len(self.numbers)

    def read(self, wanted: Sequence[int]) -> Iterator[np.ndarray]:
        """Frames uint8 (H, W, 3) of ascending numbers.

        Raises:
            ValueError: One is damaged, or differs in size from the first.
        """
        numbers = [self.numbers[number] for number in wanted]
        frames = decode(self.source, numbers, self.index) if self.files is None else self._read_files(numbers)
        shape = None
        for number, frame in zip(wanted, frames, strict=True):
            shape = shape or frame.shape
            if frame.shape != shape:
                (h, w, _), (H, W, _) = frame.shape, shape
                raise ValueError(f"{self.name}: frame {number} is {w}x{h} and those before it {W}x{H}.")
            yield frame

    def _read_files(self, numbers: Sequence[int]) -> Iterator[np.ndarray]:
        return (np.array(read_image(self.files[number])) for number in numbers)


def open_frames(path: str | Path, flag: str = "") -> ClipFrames:
    """The frames of a video file or of a folder of numbered frames; none are read yet.

    Args:
        flag: What the user passed it by.

    Raises:
        FileNotFoundError: There is neither.
        ValueError: It cannot be read.
    """
    if not is_folder(path) and not is_file(path):
        raise FileNotFoundError(f"{flag} {path} is neither a video nor a folder of frames.".lstrip())
    return ClipFrames(VideoRecord(Path(path).name, Path(path), fps=FRAME_FOLDER_FPS))


def list_frames(folder: Path) -> list[Path]:
    """Frames of a folder in natural order (`utils.formats.folders`).

    Raises:
        ValueError: There is none, or one without a number.
    """
    frames = list_files(folder, IMAGE_SUFFIXES)
    if not frames:
        raise ValueError(f"{folder} has no frame.")
    for path in frames:
        if not re.search(r"\d", unicodedata.normalize("NFKC", path.stem)):
            raise ValueError(f"{path} has no number in its name; frames are named like 00000.png.")
    return frames


def _index(record: VideoRecord, count: int) -> FrameIndex:
    if record.fps is None:
        raise ValueError(f"{record.video} is a folder of frames without fps; its list has to give a rate.")
    check_rate(str(record.video), record.fps)
    return FrameIndex(tuple(range(count)), 1 / Fraction(record.fps).limit_denominator(1001))


def _source(record: VideoRecord) -> Path | BytesIO:
    if isinstance(record.video, Path):
        return record.video
    return _named(record.video)


def _named(member: Member) -> BytesIO:
    source = BytesIO(member.read_bytes())
    source.name = str(member)
    return source
