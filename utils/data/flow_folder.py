"""The layout of a folder of flow annotations, written by `utils.data.annotate_flow` and read with the clips.

manifest.json                   tool, settings and versions
files-00000-of-00004.jsonl      a line per clip, of each shard: key, made_at, shape, source, files with their sha256
flow/<key>.npy                  fp16 (F - frame_stride, 2, H, W), pixels, x then y: row t is the flow from frame t to
                                frame t + frame_stride
backward_flow/<key>.npy         the flow back
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from utils.data.journal import read_rows
from utils.data.video_records import VideoRecord
from utils.files import is_file
from utils.formats.arrays import open_array
from utils.formats.text import read_json
from utils.messages.words import count

MANIFEST = "manifest.json"


def read_manifest(folder: Path) -> dict:
    """Settings of the annotation.

    Raises:
        FileNotFoundError: The folder holds none.
    """
    path = folder / MANIFEST
    if not is_file(path):
        raise FileNotFoundError(f"{folder} has no {MANIFEST}; make it with python -m utils.data.annotate_flow.")
    return read_json(path)


def read_finished(folder: Path) -> dict[str, dict]:
    """The newest line of each clip that any shard has finished, by key."""
    rows = [row for path in folder.glob("files-*-of-*.jsonl") for row in read_rows(path)]
    return {row["key"]: row for row in sorted(rows, key=lambda row: row["made_at"])}


def attach_flow(records: Sequence[VideoRecord], folder: str | Path) -> list[VideoRecord]:
    """The records with their annotations in a folder.

    Raises:
        FileNotFoundError: There is no annotation.
        ValueError: Some clips are missing in it.
    """
    folder = Path(folder)
    manifest, finished = read_manifest(folder), read_finished(folder)
    missing = [record.key for record in records if record.key not in finished]
    if missing:
        raise ValueError(
            f"{folder} has no flow of {len(missing)} of {count(len(records), 'clip')}, the first {missing[0]}; "
            "make it with python -m utils.data.annotate_flow, all shards."
        )
    place = {"flow_stride": manifest["frame_stride"], "flow_fps": manifest["fps"]}
    return [replace(record, **_files(folder, finished[record.key]), **place) for record in records]


def read_flow(path: Path, rows: Sequence[int]) -> torch.Tensor:
    """Rows of an annotation: float32 (len(rows), 2, H, W) in pixels; only these are read.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds no flow, or fewer rows.
    """
    array = open_flow(path)
    if rows[-1] >= len(array):
        raise ValueError(f"{path} has {count(len(array), 'row')}; row {rows[-1]} is needed.")
    return torch.from_numpy(array[list(rows)].astype(np.float32))


def open_flow(path: Path) -> np.ndarray:
    """The array of an annotation, not yet read; see `read_flow`."""
    if not is_file(path):
        raise FileNotFoundError(f"There is no flow {path}.")
    array = open_array(path)
    if array.ndim != 4 or array.shape[1] != 2:
        raise ValueError(f"{path} holds {array.shape}; flow is (F, 2, H, W).")
    return array


def _files(folder: Path, row: dict) -> dict[str, Path]:
    return {name: folder / name / f"{row['key']}.npy" for name in row["sha256"]}
