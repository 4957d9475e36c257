"""Clips and flow that users pass to a command, in all forms that the project itself writes."""

from pathlib import Path

import numpy as np
import torch

from utils.data.clip_frames import ClipFrames
from utils.data.flow_folder import MANIFEST, open_flow, read_manifest
from utils.data.video_records import VideoRecord
from utils.files import is_file, is_folder
from utils.flow.files import read_flo, read_kitti
from utils.formats.arrays import open_array
from utils.formats.folders import list_files, walk_files
from utils.messages.words import count
from utils.video import to_pixels

STEP_READERS = {".flo": read_flo, ".png": read_kitti}  # files of one step each


def read_clip(path: str | Path, num_frames: int | None = None, at_most: int | None = None) -> torch.Tensor:
    """Pixels (F, 3, H, W) in [-1, 1] of the first frames of a video file or of a folder of numbered frames.

    Args:
        num_frames: F; it has to have as many.
        at_most: F in place of it, where there may be fewer.

    Raises:
        FileNotFoundError: There is neither.
        ValueError: It cannot be read, or has fewer than two frames, or fewer than num_frames.
    """
    path = Path(path)
    if not is_folder(path) and not is_file(path):
        raise FileNotFoundError(f"There is no video and no folder of frames {path}.")
    clip = ClipFrames(VideoRecord(path.name, path, fps=1.0))
    due = num_frames or min(len(clip), at_most or len(clip))
    if len(clip) < max(due, 2):
        raise ValueError(
            f"{path} has {count(len(clip), 'frame')}, not {max(due, 2)}: pass a longer video"
            + (" or a smaller --num_frames." if len(clip) > 1 else ".")
        )
    return to_pixels(np.stack(list(clip.read(range(due)))))


def read_steps(path: str | Path, num_flows: int | None = None) -> torch.Tensor:
    """Flow (F - 1, 2, H, W) in pixels, x then y, from each frame to the next.

    Args:
        path: A .flo file or a KITTI .png of one step; an annotation .npy (F - 1, 2, H, W) or (2, H, W), or the folder
            of `utils.data.annotate_flow` with one clip in it; a folder of any of these files, one for each step. An
            annotation over several frames is read as the flow of every such frame.
        num_flows: How many to read, the first ones; by default all.

    Raises:
        FileNotFoundError: There is none.
        ValueError: They are of several sizes, or too few, or some of their vectors are unknown.
    """
    path = Path(path)
    if not is_folder(path) and not is_file(path):
        raise FileNotFoundError(f"There is no flow {path}.")
    flow = _read_folder(path) if is_folder(path) else _read_file(path)
    if num_flows and len(flow) < num_flows:
        raise ValueError(f"{path} has {count(len(flow), 'step')}, not {num_flows}: pass a smaller --num_frames.")
    flow = torch.from_numpy(flow[:num_flows].astype(np.float32))
    if unknown := int((~flow.isfinite()).any(dim=1).sum()):
        raise ValueError(f"{path} has {count(unknown, 'unknown vector')}: fill them in, with those around them, say.")
    return flow


def _read_file(path: Path) -> np.ndarray:
    """(F - 1, 2, H, W)."""
    suffix = path.suffix.lower()
    if suffix in STEP_READERS:
        return STEP_READERS[suffix](path)[None]
    if suffix != ".npy":
        raise ValueError(f"{path} holds no flow: pass .flo, .npy, a KITTI .png, or a folder of them.")
    return _open_steps(path)[:: _stride(path)]


def _open_steps(path: Path) -> np.ndarray:
    """(F - 1, 2, H, W) of an array of that shape, or of one step (2, H, W)."""
    array = open_array(path)
    return array[None] if array.ndim == 3 and array.shape[0] == 2 else open_flow(path)


def _stride(path: Path) -> int:
    """Frames that a row of an annotation goes over: as the manifest of its folder says, or one."""
    root = next((folder for folder in path.parents if (folder / MANIFEST).is_file()), None)
    kind = root and path.relative_to(root).parts[0]
    if kind == "backward_flow":
        raise ValueError(f"{path} is flow back in time: pass the file in {root / 'flow'}.")
    return read_manifest(root)["frame_stride"] if kind == "flow" else 1


def _read_folder(folder: Path) -> np.ndarray:
    if (folder / MANIFEST).is_file():
        return _read_file(_only_clip(folder))
    arrays = {suffix: list_files(folder, {suffix}) for suffix in (".flo", ".npy")}
    if all(arrays.values()):
        raise ValueError(f"{folder} has flow as .flo and as .npy: leave the files of one kind there.")
    for paths in (*arrays.values(), list_files(folder, {".png"})):
        if paths:
            return _read_files(paths)
    raise FileNotFoundError(f"There is no .flo, .npy or .png file with flow in {folder}.")


def _only_clip(folder: Path) -> Path:
    clips = walk_files(folder / "flow", {".npy"})
    if len(clips) != 1:
        shown = f", such as {clips[0]}" if clips else ""
        raise ValueError(f"{folder} holds the flow of {count(len(clips), 'clip')}: pass the file of one{shown}.")
    return clips[0]


def _read_files(paths: list[Path]) -> np.ndarray:
    """Files of one step each; one file may also hold all steps."""
    flows = [_read_file(path) for path in paths]
    for path, flow in zip(paths, flows, strict=True):
        if len(paths) > 1 and len(flow) != 1:
            raise ValueError(
                f"{path} holds {len(flow)} steps, as {paths[0].parent} holds several clips: pass one file."
            )
        if flow.shape[1:] != flows[0].shape[1:]:
            raise ValueError(f"{path} is of another size than {paths[0]}: bring them to one.")
    return np.concatenate(flows)
