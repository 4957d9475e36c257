"""Flow files of the benchmarks. Arrays are float32 (2, H, W), pixels, x then y, nan where the flow is unknown."""

from pathlib import Path

import cv2
import numpy as np

from utils.files import is_file, replacing

MAGIC = b"PIEH"
UNKNOWN = 1e9  # Middlebury: a larger value in a .flo file means unknown
KITTI_ZERO, KITTI_STEPS = 2**15, 64  # KITTI: (value - 2^15) / 64 pixels; the third channel says whether it is known


def read_flo(path: str | Path) -> np.ndarray:
    """Read a Middlebury .flo file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no .flo file, or cut short.
    """
    data = _read(path)
    if data[:4] != MAGIC:
        raise ValueError(f"{path} is no .flo file: it begins with {data[:4]!r} and not {MAGIC!r}.")
    if len(data) < 12:
        raise ValueError(f"{path} is cut short: it has {len(data)} bytes, and the header of a .flo file 12.")
    W, H = (int(n) for n in np.frombuffer(data, "<i4", 2, offset=4))
    if len(data) != 12 + 8 * W * H:
        raise ValueError(f"{path} has {len(data)} bytes; a flow of {W} x {H} has {12 + 8 * W * H}.")
    flow = np.frombuffer(data, "<f4", offset=12).reshape(H, W, 2).transpose(2, 0, 1).copy()
    flow[:, (np.abs(flow) > UNKNOWN).any(axis=0)] = np.nan
    return flow


def write_flo(path: str | Path, flow: np.ndarray) -> None:
    """Write (2, H, W) as a Middlebury .flo file; nan becomes its mark for unknown."""
    values = np.nan_to_num(_checked(flow), nan=10 * UNKNOWN).transpose(1, 2, 0)
    header = MAGIC + np.array([flow.shape[2], flow.shape[1]], "<i4").tobytes()
    with replacing(path) as temporary:
        temporary.write_bytes(header + values.astype("<f4").tobytes())


def read_kitti(path: str | Path) -> np.ndarray:
    """Read a KITTI flow PNG: steps of 1/64 px.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no PNG of three channels of 16 bits.
    """
    data = _read(path)
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if values is None or values.dtype != np.uint16 or values.shape[2:] != (3,):
        raise ValueError(f"{path} is no KITTI flow: that is a PNG of three channels of 16 bits.")
    known, y, x = values.astype(np.float32).transpose(2, 0, 1)  # OpenCV gives blue, green, red
    return np.where(known > 0, (np.stack([x, y]) - KITTI_ZERO) / KITTI_STEPS, np.nan).astype(np.float32)


def write_kitti(path: str | Path, flow: np.ndarray) -> None:
    """Write (2, H, W) as a KITTI flow PNG, rounded to 1/64 px; nan becomes unknown.

    Raises:
        ValueError: A vector is longer than the format holds, 512 px.
    """
    known = np.isfinite(_checked(flow)).all(axis=0)
    values = np.rint(np.where(known, flow, 0) * KITTI_STEPS) + KITTI_ZERO
    if values.min() < 0 or values.max() > 2**16 - 1:
        raise ValueError(f"{path}: KITTI files hold up to 512 px; the flow reaches {np.nanmax(np.abs(flow)):.0f}.")
    pixels = np.stack([known, values[1], values[0]], axis=-1).astype(np.uint16)
    with replacing(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", pixels)[1])


def _checked(flow: np.ndarray) -> np.ndarray:
    if flow.ndim != 3 or flow.shape[0] != 2:
        raise ValueError(f"A flow has the shape (2, H, W), not {flow.shape}.")
    return flow


def _read(path: str | Path) -> bytes:
    if not is_file(path):
        raise FileNotFoundError(f"There is no flow file {path}.")
    return Path(path).read_bytes()
