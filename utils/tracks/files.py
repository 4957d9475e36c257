"""Files of tracks: JSON, and numpy arrays (N, F, 2).

{"width": 1024, "height": 576,
 "tracks": [[[x, y], [x, y], …], …],
 "static_points": [[x, y], …],
 "static_regions": [[x0, y0, x1, y1], …],
 "camera": {"preset": "pan_left", "speed": 2.0}}

At least one of tracks, static_points, static_regions and camera has to be there. Numbers are pixels, x then y, of an
image of that width and height (default: the size of the input image).
"""

import math
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from utils.files import is_file
from utils.formats.arrays import open_array
from utils.formats.text import read_json
from utils.messages.notices import notice
from utils.messages.words import count
from utils.tracks.camera import PANS, camera_flow, check_camera
from utils.tracks.tracks import Tracks, check_inside

KEYS = ("width", "height", "tracks", "static_points", "static_regions", "camera")
LAYOUTS = ("points", "box")
MAX_SIDE = 1e6  # pixels; also refuses inf and nan
FAR_SIDES = 10  # times the longer side of the image: no point lies farther from its corner
ROUNDING = 1e-3  # pixels by which an edge may miss that of a pixel


@dataclass(frozen=True, eq=False)
class TrackFile:
    """The motion that a file asks for, in pixels of the input image.

    Attributes:
        tracks: (K, 2) float32 each; K points at equal times over the whole video, K of its own.
        static_points: (S, 2).
        static_regions: (R, 4): left, top, right and lower edge; pixel i reaches from i to i + 1.
        camera: Preset and speed, or None.
        size: Width and height of the input image.
    """

    tracks: tuple[torch.Tensor, ...]
    static_points: torch.Tensor
    static_regions: torch.Tensor
    camera: tuple[str, float] | None
    size: tuple[int, int]

    def on_video(self, num_frames: int, width: int, height: int) -> Tracks:
        """The motion in a video whose first frame is the input image after `utils.images.cover`.

        Each track is interpolated linearly in time. The speed of a camera is per frame of the video.

        Raises:
            ValueError: A point of frame 0 is cropped away, or a dragged point starts in a static region.
        """
        scale, corner = cover_map(self.size, (width, height))
        points = [_resample(track, num_frames) for track in self.tracks]
        points += [point.expand(num_frames, 2) for point in self.static_points]
        stacked = torch.stack(points, dim=1) if points else torch.zeros(num_frames, 0, 2)
        mapped = (stacked + 0.5) * scale - 0.5 - corner
        _check_not_cut(mapped[0], width, height)
        mask = self._mask(scale, corner, width, height)
        tracks = Tracks(mapped, width, height, mask, self._camera(scale, num_frames, width, height))
        _check_not_static(tracks)
        return tracks

    def _mask(self, scale, corner, width: int, height: int) -> torch.Tensor | None:
        if len(self.static_regions) == 0:
            return None
        mask = torch.zeros(height, width, dtype=torch.bool)
        for region in self.static_regions:
            low, high = (edge * scale - corner for edge in region.view(2, 2))
            left, top = (max(0, math.floor(value + ROUNDING)) for value in low.tolist())
            right, bottom = (max(0, math.ceil(value - ROUNDING)) for value in high.tolist())
            mask[top:bottom, left:right] = True  # all pixels that it covers in part
        return mask

    def _camera(self, scale, num_frames: int, width: int, height: int) -> torch.Tensor | None:
        if self.camera is None:
            return None
        preset, speed = self.camera
        if preset in PANS:
            speed *= float(scale[0] if PANS[preset][0] else scale[1])
        return camera_flow(preset, speed, num_frames, width, height)


def read_track_file(path: str | Path, width: int, height: int, layout: str = "points") -> TrackFile:
    """Read a .json or .npy file for an input image of this size.

    Args:
        layout: Layout of arrays. "points": each track is its points. "box": two opposite corners of a box on the first
            frame come before the points, which are its middle (the files of SG-I2V); they are skipped.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It does not hold what this module's text says, or frame 0 has a point outside of the image.
    """
    path = Path(path)
    if layout not in LAYOUTS:
        raise ValueError(f"The layout {layout!r} of tracks is unknown: choose one of {', '.join(LAYOUTS)}.")
    if not is_file(path):
        raise FileNotFoundError(f"There is no file of tracks {path}.")
    if path.suffix.lower() == ".json":
        file, counted = _from_json(path, width, height)
    elif path.suffix.lower() == ".npy":
        counted = _from_array(path, layout)
        file = TrackFile(counted, torch.zeros(0, 2), torch.zeros(0, 4), None, (width, height))
    else:
        raise ValueError(f"{path} is neither .json nor .npy.")
    _check(path, file)
    _warn_of_shares(path, counted)
    return file


def cover_map(size: tuple[int, int], video_size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale (2,) and corner (2,) by which `utils.images.cover` maps points: (p + 0.5) scale - 0.5 - corner.

    Sizes are (width, height).
    """
    factor = max(due / side for due, side in zip(video_size, size, strict=True))
    covering = [max(due, round(side * factor)) for due, side in zip(video_size, size, strict=True)]
    corner = [(side - due) // 2 for side, due in zip(covering, video_size, strict=True)]
    scale = [new / old for new, old in zip(covering, size, strict=True)]
    return torch.tensor(scale), torch.tensor(corner, dtype=torch.float32)


def _from_json(path: Path, width: int, height: int) -> tuple[TrackFile, Sequence[torch.Tensor]]:
    """The motion, and its points (K, 2) as the file counts them: the first of each tensor is in frame 0."""
    content = read_json(path)
    if not isinstance(content, dict) or (unknown := set(content) - set(KEYS)):
        what = f"has the unknown key {min(unknown)!r}" if isinstance(content, dict) else "is no mapping"
        raise ValueError(f"{path} {what}: it takes {', '.join(KEYS)}.")
    for key in ("tracks", "static_points", "static_regions"):
        if not isinstance(content.get(key, []), list):
            raise ValueError(f"{path}: {key} is to be a list.")
    scale = torch.tensor(_scale(path, content, width, height))
    tracks = tuple(_numbers(path, f"tracks[{i}]", track, 2) for i, track in enumerate(content.get("tracks", [])))
    points, regions = (
        _numbers(path, key, content.get(key, []), count) for key, count in (("static_points", 2), ("static_regions", 4))
    )
    counted = [*tracks, *points[:, None], *regions.view(-1, 2, 2)]
    camera = _read_camera(path, content.get("camera"))
    if camera and camera[0] in PANS:
        camera = (camera[0], camera[1] * float(scale[0] if PANS[camera[0]][0] else scale[1]))
    tracks, points = tuple((track + 0.5) * scale - 0.5 for track in tracks), (points + 0.5) * scale - 0.5
    edges = (regions + torch.tensor([0, 0, 1, 1])) * scale.repeat(2)
    return TrackFile(tracks, points, edges, camera, (width, height)), counted


def _scale(path: Path, content: dict, width: int, height: int) -> list[float]:
    """Factors from the size that a file names to that of the input image."""
    named = [content.get("width", width), content.get("height", height)]
    if any(isinstance(side, bool) or not isinstance(side, int | float) or not 0 < side <= MAX_SIDE for side in named):
        raise ValueError(
            f"{path}: width and height are {reprlib.repr(named)} and have to be positive numbers of pixels."
        )
    scale = [width / named[0], height / named[1]]
    if abs(scale[0] / scale[1] - 1) > 0.02:
        raise ValueError(
            f"{path} is for an image of {named[0]}x{named[1]} pixels and the input's {width}x{height} are of another "
            "shape; pass the image that the tracks were made for."
        )
    return scale


def _numbers(path: Path, key: str, values, count: int) -> torch.Tensor:
    """A list of lists of `count` numbers as (K, count)."""
    try:
        with np.errstate(over="ignore"):  # becomes inf, which is refused
            array = np.asarray(values, np.float32)
        array = array.reshape(-1, count) if values == [] else array
    except (TypeError, ValueError, OverflowError):
        array = np.zeros(0)
    if array.ndim != 2 or array.shape[1] != count:
        raise ValueError(f"{path}: {key} is to be a list of lists of {count} numbers each.")
    return torch.from_numpy(array)


def _read_camera(path: Path, camera) -> tuple[str, float] | None:
    if camera is None:
        return None
    if not isinstance(camera, dict) or set(camera) != {"preset", "speed"}:
        raise ValueError(f'{path}: camera is to be {{"preset": …, "speed": …}}.')
    try:
        check_camera(camera["preset"], camera["speed"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return camera["preset"], float(camera["speed"])


def _from_array(path: Path, layout: str) -> tuple[torch.Tensor, ...]:
    array = open_array(path, mmap=False)
    if array.ndim != 3 or array.shape[-1] != 2 or array.dtype.kind not in "fiu":
        raise ValueError(f"{path} is to be an array of numbers (N, F, 2), not {array.dtype} {array.shape}.")
    if layout == "box":
        array = array[:, 2:]
    elif _starts_with_boxes(array):
        raise ValueError(
            f"{path}: the third point of each track is the middle of the first two, as in files of boxes; "
            "pass --tracks_layout box."
        )
    with np.errstate(over="ignore"):  # becomes inf, which is refused
        return tuple(torch.from_numpy(array.astype(np.float32)))


def _warn_of_shares(path: Path, counted: Sequence[torch.Tensor]) -> None:
    """Print a line to stderr where points (K, 2) begin within 0 to 1 and stay near it, as shares of an image do."""
    if not counted:
        return
    points, starts = torch.cat([*counted]), torch.cat([points[:1] for points in counted])
    if points.min() >= -1 and points.max() <= 2 and starts.min() >= 0 and starts.max() <= 1:
        notice(f"All tracks of {path} begin within 0 to 1: points count pixels of the image, x then y, not 0 to 1.")


def _starts_with_boxes(array: np.ndarray) -> bool:
    if array.shape[0] == 0 or array.shape[1] < 4:
        return False
    first, second, third = array[:, :3].astype(float).transpose(1, 0, 2)
    extent = np.abs(second - first).min(axis=1)
    return bool((extent >= 4).all() and (np.abs((first + second) / 2 - third) <= 1).all())


def _check(path: Path, file: TrackFile) -> None:
    if not file.tracks and not len(file.static_points) and not len(file.static_regions) and file.camera is None:
        raise ValueError(f"{path} asks for nothing: give it tracks, static points or regions, or a camera.")
    for i, track in enumerate(file.tracks):
        if len(track) < 2:
            raise ValueError(f"{path}: track {i} has {count(len(track), 'point')} and needs 2 or more.")
    given = [*file.tracks, file.static_points, file.static_regions]
    if not all(values.isfinite().all() for values in given):
        raise ValueError(f"{path} has a number that is not finite.")
    most = FAR_SIDES * max(file.size)
    for x, y in torch.cat([values.reshape(-1, 2) for values in given]).tolist():
        if max(abs(x), abs(y)) > most:
            width, height = file.size
            raise ValueError(
                f"{path} has a point at ({x:g}, {y:g}) in pixels of the image, far outside of its {width}x{height}: "
                f"pass points up to {most:g} pixels away."
            )
    starts = torch.cat([*(track[:1] for track in file.tracks), file.static_points])
    try:
        check_inside(starts, *file.size)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    for left, top, right, lower in file.static_regions.tolist():
        inside = right > 0 and lower > 0 and left < file.size[0] and top < file.size[1]
        if not (inside and left < right and top < lower):
            region = ", ".join(f"{edge:g}" for edge in (left, top, right - 1, lower - 1))
            raise ValueError(f"{path}: the static region [{region}] is no x0, y0, x1, y1 inside of the image.")


def _check_not_cut(points: torch.Tensor, width: int, height: int) -> None:
    try:
        check_inside(points, width, height)
    except ValueError as error:
        raise ValueError(
            f"{error} The crop to the video's shape cut it away: pass a --height and --width of the image's shape."
        ) from None


def _check_not_static(tracks: Tracks) -> None:
    if tracks.static is None:
        return
    for x, y in tracks.points[0][tracks.moving].round().long().tolist():
        if tracks.static[min(max(y, 0), tracks.height - 1), min(max(x, 0), tracks.width - 1)]:
            raise ValueError(f"A track starts at ({x}, {y}) of the video, in a static region: shrink the region.")


def _resample(track: torch.Tensor, num_frames: int) -> torch.Tensor:
    """(K, 2) -> (num_frames, 2), linear in time, both ends kept."""
    return functional.interpolate(track.T[None], num_frames, mode="linear", align_corners=True)[0].T
