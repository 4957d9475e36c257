"""Checkpoints of a training run: `checkpoint-N` folders that hold all that a resumed run needs and no frozen weight.

`progress.json` is written last and lists every file with its size and checksum, so that a checkpoint is known to be
whole before anything is read from it.
"""

import argparse
import json
import re
import shutil
import zlib
from functools import lru_cache
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file

from utils.files import share_weights
from utils.training.writing import writing

WEIGHTS = "trained.safetensors"
PROGRESS = "progress.json"
OPTIMIZER = "optimizer.bin"  # as accelerate calls it
NAME = re.compile(r"checkpoint-(0|[1-9][0-9]*)")
BLOCK = 1 << 24  # bytes that are read at once


def list_checkpoints(folder: str | Path) -> list[Path]:
    """The folders called checkpoint-N, whole or not, earliest first; other names are not looked at."""
    found = [path for path in Path(folder).glob("checkpoint-*") if NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=named_step)


def named_step(path: Path) -> int:
    """N of `checkpoint-N`."""
    return int(path.name.split("-")[1])


def find_checkpoint(args: argparse.Namespace) -> Path | None:
    """The checkpoint of `--resume_from_checkpoint`, the last whole one for `latest`; None where there is none."""
    if args.resume_from_checkpoint is None:
        return None
    if args.resume_from_checkpoint != "latest":
        return Path(args.resume_from_checkpoint)
    return last_whole(args.output_dir)


def last_whole(folder: str | Path) -> Path | None:
    """The latest checkpoint of a folder that is whole."""
    return next((path for path in reversed(list_checkpoints(folder)) if damage(path) is None), None)


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint, as a clause; None where it is whole."""
    if not (path / PROGRESS).is_file():
        return "it is empty" if path.is_dir() and not any(path.iterdir()) else f"it has no {PROGRESS}"
    try:
        progress = read_progress(path)
    except ValueError:
        return f"its {PROGRESS} cannot be read"
    if NAME.fullmatch(path.name) and progress["step"] != named_step(path):
        return f"its {PROGRESS} is of step {progress['step']}"
    files = progress.get("files") or dict.fromkeys((WEIGHTS, OPTIMIZER))  # older ones list no files
    return next((found for found in (_damage_of_file(path / name, files[name]) for name in files) if found), None)


def _damage_of_file(file: Path, due: list[int] | None) -> str | None:
    if not file.is_file():
        return f"{file.name} is missing"
    status = file.stat()
    if due is None:
        return None if status.st_size else f"{file.name} is empty"
    size, checksum = due
    if status.st_size != size:
        return f"{file.name} has {status.st_size} of {size} bytes"
    if _checksum(file, status.st_size, status.st_mtime_ns) != checksum:
        return f"{file.name} is not what was written"
    return None


@lru_cache(maxsize=256)
def _checksum(file: Path, size: int, modified: int) -> int:
    """CRC-32 of a file; size and time of its last change tell when it is read again."""
    checksum = 0
    with file.open("rb") as stream:
        while block := stream.read(BLOCK):
            checksum = zlib.crc32(block, checksum)
    return checksum


def read_progress(path: Path) -> dict:
    """`step`, `layout` and what else a checkpoint says of itself.

    Raises:
        ValueError: It cannot be read.
    """
    try:
        progress = json.loads((path / PROGRESS).read_text())
        known = isinstance(progress["step"], int) and isinstance(progress["layout"], dict)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path / PROGRESS} cannot be read.") from error
    if not known:
        raise ValueError(f"{path / PROGRESS} does not say where the run was.")
    return progress


def drop_later(folder: Path, step: int) -> None:
    """Remove checkpoints later than `step`, which a run that starts there will write anew, and half-written ones."""
    for path in folder.glob("checkpoint-*.tmp"):
        shutil.rmtree(path)
    for path in list_checkpoints(folder):
        if named_step(path) > step and _is_ours(path):
            shutil.rmtree(path)


def _is_ours(path: Path) -> bool:
    """Whether a folder is a checkpoint or what is left of one, and not a user's own of such a name."""
    return not any(path.iterdir()) or any((path / name).exists() for name in (PROGRESS, WEIGHTS, OPTIMIZER))


def save_only_trained(accelerator: Accelerator, model: torch.nn.Module) -> None:
    """Make the accelerator's checkpoints hold the trained parameters and buffers of `model`, and nothing frozen."""
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}

    def write(models, weights, folder):
        weights.clear()
        if accelerator.is_main_process:
            state = {name: value.contiguous() for name, value in model.state_dict().items() if name not in frozen}
            save_file(state, str(Path(folder) / WEIGHTS))

    def read(models, folder):
        models.clear()
        state = load_file(str(Path(folder) / WEIGHTS))
        found = {name: tuple(value.shape) for name, value in state.items()}
        due = {name: tuple(value.shape) for name, value in model.state_dict().items() if name not in frozen}
        if wrong := sorted(name for name in found | due if found.get(name) != due.get(name)):
            raise ValueError(
                f"{folder} was made with other trained weights than this run: {wrong[0]} is {found.get(wrong[0])} "
                f"there and {due.get(wrong[0])} here."
            )
        model.load_state_dict(state, strict=False)

    accelerator.register_save_state_pre_hook(write)
    accelerator.register_load_state_pre_hook(read)


def save_checkpoint(accelerator: Accelerator, folder: Path, step: int, about: dict, limit: int | None) -> None:
    """Write `folder/checkpoint-{step}` under a temporary name, rename it, then keep the newest `limit`.

    about: What `progress.json` says besides the step and the files, as JSON can hold it.

    Raises:
        OSError: The disk is full; what was written is removed.
    """
    path = folder / f"checkpoint-{step}"
    temporary = path.with_name(path.name + ".tmp")
    try:
        with writing(path):
            accelerator.save_state(str(temporary))
            accelerator.wait_for_everyone()
            if accelerator.is_main_process:
                share_weights(temporary)
                progress = {"step": step, **about, "files": _describe_files(temporary)}
                (temporary / PROGRESS).write_text(json.dumps(progress, default=str))
                _make_way(path)
                temporary.rename(path)
                _keep_newest(folder, step, limit)
    finally:
        if accelerator.is_main_process:
            shutil.rmtree(temporary, ignore_errors=True)
    accelerator.wait_for_everyone()


def _keep_newest(folder: Path, step: int, limit: int | None) -> None:
    earlier = [old for old in list_checkpoints(folder) if named_step(old) <= step and _is_ours(old)]
    for old in earlier[:-limit] if limit else []:
        shutil.rmtree(old)


def _describe_files(folder: Path) -> dict[str, list[int]]:
    """Size and checksum of each file."""
    files = {path.name: (path, path.stat()) for path in sorted(folder.iterdir()) if path.is_file()}
    return {name: [s.st_size, _checksum(path, s.st_size, s.st_mtime_ns)] for name, (path, s) in files.items()}


def _make_way(path: Path) -> None:
    """Remove an earlier checkpoint of this name; a folder that is none is renamed."""
    if not path.exists():
        return
    if path.is_dir() and _is_ours(path):
        shutil.rmtree(path)
        return
    names = (path.with_name(f"{path.name}.old{number or ''}") for number in range(1000))
    path.rename(next(name for name in names if not name.exists()))
