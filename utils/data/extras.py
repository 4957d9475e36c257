"""What a variant adds to samples of clips: functions from a clip to entries of the sample, cached or not."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from utils.data.videos import VideoSample


class Extra(ABC):
    """A function from a clip to entries of the sample. A variant writes `__call__`; the rest is there for all.

    The clip is a `VideoSample`. Where clips are cached (`utils.data.clip_latents`) it has `latents` and `image`, the
    frames as `pixel_values` unless `frames` is false, and what `take` makes of the arrays that `keep` returned for the
    whole clip. By default these are the annotations in `reads`, of which a stretch takes its own rows: `__call__` then
    sees no difference. An extra that encodes something, or that is the same for each stretch of a clip, overrides
    `keep`, `take` and `settings`.

    Attributes:
        name: Of the cache's folder.
        reads: Annotations that each clip must have: "flow", "backward_flow", "tracks".
        wants: Annotations that are read where all clips have them for the frames that are taken, and only without a
            cache.
        least_frames: Of a stretch.
        frames: Whether it looks at the frames of a clip that is cached.
        cached: Whether a cache keeps something of it; by default where it reads annotations.
        steady: Whether a cached stretch has to take every frame and run forwards, as annotated flow does.
    """

    name: ClassVar[str] = "extra"
    reads: tuple[str, ...] = ()
    wants: ClassVar[tuple[str, ...]] = ()
    least_frames: ClassVar[int] = 2
    frames: ClassVar[bool] = True

    @abstractmethod
    def __call__(self, clip: dict) -> dict[str, torch.Tensor]:
        """Entries of the sample; random numbers are drawn from torch."""

    @property
    def cached(self) -> bool:
        return bool(self.reads)

    @property
    def steady(self) -> bool:
        return bool({"flow", "backward_flow"} & set(self.reads))

    def settings(self) -> list:
        """What decides the arrays of `keep` besides the clip, as JSON."""
        return []

    def keep(self, clip: VideoSample, vae: nn.Module) -> dict[str, np.ndarray]:
        """Arrays to cache of a whole clip, the same shapes for all clips; a row a frame, or a frame but the last."""
        names = [name for read in self.reads for name in (("tracks", "visible") if read == "tracks" else (read,))]
        return {name: np.asarray(clip[name]) for name in names}

    def take(self, kept: dict[str, np.ndarray], numbers: list[int], num_frames: int) -> dict[str, torch.Tensor]:
        """Entries of the clip of a stretch: the rows of its frames.

        Args:
            kept: The arrays of the whole clip.
            numbers: Of the stretch's frames.
            num_frames: Of the whole clip.
        """
        rows = {num_frames: numbers, num_frames - 1: numbers[:-1]}
        return {name: torch.from_numpy(np.array(array[rows[len(array)]])) for name, array in kept.items()}


class Captions(Extra):
    """`caption`: the text of a clip."""

    frames = False

    def __call__(self, clip: dict) -> dict[str, str]:
        return {"caption": clip["caption"]}


def annotations(extras: Sequence[Extra]) -> tuple[str, ...]:
    """What the extras read, each once."""
    return tuple(dict.fromkeys(name for extra in extras for name in extra.reads))
