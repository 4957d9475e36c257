"""Depth as metres, as disparity, and as images.

Metres: distance along the optical axis. On disk a 16-bit PNG of millimetres, 0 where unknown, 65.535 m at most; floats
(TIFF, PFM, HDR) are read as metres themselves.
Disparity: 1 / metres, or any affine map of it: larger is nearer. Networks see it *normalised*: mapped per image onto
[-1, 1], nearest 1, farthest -1. The map is from minimum to maximum and not from percentiles, so that it is affine for
every pixel: nothing saturates, and the affine alignment of an evaluation undoes it exactly. Inverse depth, since a far
background would otherwise take most of the range from the objects, and since depth models that learn from stereo or the
web predict it.
Files that are written here say in a text chunk, "Depth kind", which of the two they hold, and readers believe it.
"""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from utils.files import is_file, replacing
from utils.images import find_turn, image_size, open_image, speaks_late
from utils.messages.notices import notice

KINDS = ("metres", "disparity")
KIND_KEY = "Depth kind"
SAID = {"metres": "millimetres", "disparity": "disparity"}  # what files say for each kind
MAX_METRES = 65.535
EXACT_MODES = ("L", "F", "I;16", "I;16B", "I;16L")  # in which Pillow keeps one channel as it is stored


def write_depth(path: str | Path, metres: np.ndarray) -> None:
    """Write metres (H, W) as a 16-bit PNG of millimetres, at most 65.535 m; unknown ones (0, nan) become 0."""
    known = np.nan_to_num(metres, nan=0.0, posinf=MAX_METRES, neginf=0.0)
    _write_16_bit(path, np.clip(known, 0, MAX_METRES) * 1000, {KIND_KEY: SAID["metres"]})


def read_depth(path: str | Path) -> np.ndarray:
    """Read metres from 16 bits (of millimetres) or from floats (of metres): float32 (H, W), 0 where unknown.

    Unknown floats are those that are not positive or not a number; inf is as far as can be.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It has colours, whole numbers of other than 16 bits, or says that it holds disparity.
    """
    if stored_kind(path) == "disparity":
        raise ValueError(f"{path} says that it holds disparity, not metres; read it with read_disparity.")
    values = _read_gray(path)
    if values.dtype == np.float32:
        return np.where(values > 0, values, 0)
    if values.dtype != np.uint16:
        raise ValueError(
            f"{path} has 8 bits; metres are stored in 16 (millimetres) or as floats. If it holds disparity, name that "
            "kind."
        )
    return values.astype(np.float32) / 1000


def depth_size(path: str | Path) -> tuple[int, int]:
    """Width and height of a depth image as it is read, from the header alone where Pillow knows the format.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read.
    """
    try:
        return image_size(path)
    except ValueError:
        return _read_gray(path).shape[::-1]


def write_disparity(path: str | Path, disparity: np.ndarray, about: dict[str, str] | None = None) -> None:
    """Write normalised disparity (H, W) in [-1, 1] as a 16-bit PNG: -1 becomes 0, 1 becomes 65535.

    `about` becomes further text chunks.
    """
    _write_16_bit(path, (np.clip(disparity, -1, 1) + 1) / 2 * 65535, {KIND_KEY: SAID["disparity"], **(about or {})})


def read_disparity(path: str | Path, kind: str) -> np.ndarray:
    """Read a depth image of either kind as disparity: float32 (H, W), larger is nearer, defined up to an affine map.

    Args:
        path: An image of one channel, or of three equal ones.
        kind: What it holds unless it says so itself: "metres" (see `read_depth`), or "disparity": 8 or 16 bits or
            floats, larger is nearer; floats that are not finite are unknown and become as far as the farthest known.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read, is of another kind, or has no known pixel.
    """
    if kind not in KINDS:
        raise ValueError(f"A depth image holds {' or '.join(KINDS)}, not {kind!r}.")
    if (stored_kind(path) or kind) == "metres":
        metres = read_depth(path)
        if not (metres > 0).any():
            raise ValueError(f"{path} has no known pixel: none is above 0.")
        return metres_to_disparity(metres)
    values = _read_gray(path)
    if values.dtype != np.float32:
        return values.astype(np.float32) / np.iinfo(values.dtype).max
    known = np.isfinite(values)
    if not known.any():
        raise ValueError(f"{path} has no known pixel: none is finite.")
    return np.where(known, values, values[known].min())


def stored_kind(path: str | Path) -> str | None:
    """The kind that a depth image says it holds; None where it says nothing, or cannot be read."""
    said = read_about(path).get(KIND_KEY)
    return next((kind for kind, word in SAID.items() if word == said), None)


def read_about(path: str | Path) -> dict[str, str]:
    """The text chunks of a PNG; for other images what their format keeps as text."""
    return {key: value for key, value in _header(path)[1].items() if isinstance(value, str)}


def settle_kind(path: str | Path, named: str | None, assumed: str, remedy: str) -> str:
    """What a depth image holds: what it says, else what was named, else what is assumed, and that is said on stderr.

    Args:
        path: The image.
        named: Kind by a flag or the metadata, or None.
        assumed: Kind where neither says it.
        remedy: How to name it, for the line on stderr.
    """
    stored = stored_kind(path)
    if stored and named and stored != named:
        notice(f"{path} says that it holds {SAID[stored]}, and is read as that although {named} is named.")
    if not stored and not named and _header(path)[0].startswith(("I", "F")):
        notice(f"{path} does not say what it holds and is read as {SAID[assumed]}; {remedy}.", f"{assumed}: {remedy}")
    return stored or named or assumed


def metres_to_disparity(metres: np.ndarray) -> np.ndarray:
    """1 / metres, float32; unknown pixels (0) become as far as the farthest known one."""
    known = metres > 0
    if not known.any():
        raise ValueError("The depth has no known pixel: all are 0.")
    farthest = metres[known].max()
    return (1 / np.where(known, metres, farthest)).astype(np.float32)


def normalize_disparity(disparity: np.ndarray) -> np.ndarray:
    """Map the values of one image onto [-1, 1], nearest 1; a flat one becomes 0."""
    low, high = float(disparity.min()), float(disparity.max())
    if high == low:
        return np.zeros_like(disparity)
    return (disparity - low) / (high - low) * 2 - 1


def disparity_to_metres(disparity: np.ndarray, near: float, far: float) -> np.ndarray:
    """Metres of normalised disparity [-1, 1] in a scene that reaches from `near` to `far` metres."""
    if not 0 < near < far:
        raise ValueError(f"near {near} and far {far} have to satisfy 0 < near < far.")
    share = (np.clip(disparity, -1, 1) + 1) / 2
    return 1 / (share / near + (1 - share) / far)


def color_disparity(disparity: np.ndarray) -> Image.Image:
    """Image of normalised disparity (H, W) in [-1, 1]: from red, near, to blue, far."""
    from matplotlib import colormaps

    colors = colormaps["Spectral"]((1 - np.clip(disparity, -1, 1)) / 2, bytes=True)
    return Image.fromarray(colors[..., :3])


def _write_16_bit(path: str | Path, values: np.ndarray, about: dict[str, str]) -> None:
    if values.ndim != 2:
        raise ValueError(f"Depth has the shape (H, W), not {values.shape}.")
    chunks = PngImagePlugin.PngInfo()
    for key, text in about.items():
        chunks.add_text(key, text)
    with replacing(path) as temporary:
        Image.fromarray(np.rint(values).astype(np.uint16)).save(temporary, format="PNG", pnginfo=chunks)


def _header(path: str | Path) -> tuple[str, dict]:
    """Mode and info of an image, from its header where that says all; empty where none can be read."""
    try:
        with open_image(path) as image:
            if image.format == "PNG" and speaks_late(path):
                image.load()
            return image.mode, image.info
    except (OSError, ValueError):
        return "", {}


def _read_gray(path: str | Path) -> np.ndarray:
    """What a depth image stores, upright: (H, W), uint8, uint16, or float32 for floats."""
    if not is_file(Path(path)):
        raise FileNotFoundError(f"There is no depth image {path}.")
    values, turn = _decode(path)
    if values.ndim == 3 and (np.ptp(values[..., :3].astype(np.float64), axis=2) != 0).any():
        raise ValueError(f"{path} is coloured; a depth image has one channel.")
    values = values if values.ndim == 2 else values[..., 0]
    if values.dtype.kind == "f":
        values = values.astype(np.float32)
    elif values.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"{path} holds {values.dtype}; store depth in 8 or 16 bits without a sign, or as floats.")
    return values if turn is None else np.asarray(Image.fromarray(values).transpose(turn))


def _decode(path: str | Path) -> tuple[np.ndarray, Image.Transpose | None]:
    """Stored values (H, W), or (H, W, C) of colours, and what turns them upright."""
    turn = unknown = None
    try:
        with open_image(path) as image:
            image.load()
            turn = find_turn(image)
            if image.mode in EXACT_MODES:
                values = np.asarray(image)
                return values.astype(values.dtype.newbyteorder("=")), turn
    except ValueError as error:
        if not isinstance(error.__cause__, UnidentifiedImageError):
            raise
        unknown = error
    # What Pillow lacks or scales: HDR, doubles, PGM, colours of 16 bits. OpenCV turns a TIFF itself, as Pillow does.
    values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise ValueError(
            f"{path} cannot be read as an image; store depth as PNG of 16 bits, or as floats in TIFF, PFM or HDR."
        ) from unknown
    return values, turn
