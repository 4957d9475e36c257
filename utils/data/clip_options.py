"""Which frames of a clip make a sample, and their size."""

from dataclasses import dataclass

from utils.data.rows import check_rate


@dataclass(frozen=True)
class ClipOptions:
    """Which frames of a clip are taken, and how they are cropped.

    Attributes:
        num_frames: F.
        height, width: Frames are resized to cover it, then cropped.
        frame_stride: Take every n-th frame.
        fps: Rate to count frames at, before `frame_stride` (default: the clip's own).
        center_crop: Crop the centre (default: a random part).
        random_flip: Mirror half of the samples.
        first_frames: Begin with the first frame (default: a random one).
        frame_strides: A sample takes every n-th of the frames that `frame_stride` leaves; n is one of these at random.
        random_reverse: Half of the samples run backwards, which is as true where everything moves steadily.
        held_out_frames: So many at the end of each clip are left alone, for validation (`VideoDataset.held_out`).
    """

    num_frames: int = 14
    height: int = 320
    width: int = 512
    frame_stride: int = 1
    fps: float | None = None
    center_crop: bool = False
    random_flip: bool = False
    first_frames: bool = False
    frame_strides: tuple[int, ...] = (1,)
    random_reverse: bool = False
    held_out_frames: int = 0

    def __post_init__(self):
        for name in ("num_frames", "height", "width", "frame_stride", "fps"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name}={value} is not positive.")
        if self.fps is not None:
            check_rate("ClipOptions", self.fps)
        if not self.frame_strides or min(self.frame_strides) < 1:
            raise ValueError(f"frame_strides={self.frame_strides} has to be positive steps, at least one.")

    @property
    def steady(self) -> bool:
        """Whether all samples have the same step, and run forwards."""
        return self.frame_strides == (1,) and not self.random_reverse

    @property
    def span(self) -> int:
        """Frames from the first to the last, at the largest step."""
        return self.stretch(0, max(self.frame_strides))[-1] + 1

    def stretch(self, start: int, step: int = 1) -> range:
        """Numbers of the frames that are taken."""
        stride = self.frame_stride * step
        return range(start, start + self.num_frames * stride, stride)
