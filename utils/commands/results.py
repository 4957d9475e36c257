"""Files that a run writes: where they may go, how they are written, and the record of what made them.

run = Run.start(argv, vars(args), [args.model_dir, args.adapter])
…
run.write(folder / RECORD, files, frames=8)
"""

import hashlib
import json
import os
import platform
import re
import shlex
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from PIL import Image

from utils.files import check_writable, is_file, is_folder, replacing
from utils.formats.folders import has_content, list_content
from utils.weights.model_kinds import index_of

RECORD = "run.json"
PACKAGES = ("duet", "torch", "diffusers", "transformers", "peft", "accelerate", "numpy")
WEIGHTS = re.compile(r"[^.]+\.(safetensors|bin|pth)")  # no variants, such as model.fp16.safetensors
HASH = re.compile(r"[0-9a-f]{64}")


def check_output_dir(
    folder: str | Path, overwrite: bool, inputs: Iterable[str | Path | None] = (), flag: str = "--output_dir"
) -> None:
    """Raises before any work where results cannot go into a folder.

    Args:
        inputs: Files and folders that are read; None is passed over.

    Raises:
        FileExistsError: It has content and may not be overwritten.
        OSError: It cannot be made, or written into.
        ValueError: Something that is read lies in it and might be replaced, or the record in it cannot be read.
    """
    folder = Path(folder)
    check_writable(folder, flag)
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{flag} {folder} is a file; choose another folder.")
    if folder.exists() and has_content(folder) and not overwrite:
        raise FileExistsError(f"{flag} {folder} is not empty: choose another folder or pass --overwrite.")
    for path in inputs:
        if path is not None and Path(path).resolve().is_relative_to(folder.resolve()):
            raise ValueError(
                f"{path} is read and lies in {flag} {folder}, where it may be replaced: choose another folder."
            )
    last_files(folder)


def check_output_file(path: str | Path, overwrite: bool, flag: str) -> None:
    """Raises OSError where the file cannot be made, and FileExistsError where it exists and may not be overwritten."""
    path = Path(path)
    check_writable(path, flag)
    if path.is_dir():
        raise FileExistsError(f"{flag} {path} exists and is a folder: choose another.")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{flag} {path} exists: choose another or pass --overwrite.")


def write_png(path: str | Path, image: Image.Image) -> Path:
    """Write an image as PNG; a file of that name is replaced."""
    with replacing(path) as temporary:
        image.save(temporary, format="PNG")
    return Path(path)


def remove_last_run(folder: str | Path, kept: Iterable[str | Path] = ()) -> None:
    """Remove the files that the record in the folder names, but for `kept`; what else lies there stays."""
    names = {Path(path).name for path in kept}
    for name in last_files(folder):
        if name not in names and not (Path(folder) / name).is_dir():
            (Path(folder) / name).unlink(missing_ok=True)


def last_files(folder: str | Path) -> list[str]:
    """Names of the files of the run whose record is in the folder; none where there is no record.

    What a record names elsewhere, in folders below or beside, is left out.

    Raises:
        ValueError: The record cannot be read.
    """
    record = Path(folder) / RECORD
    if not record.is_file():
        return []
    try:
        return [name for name in json.loads(record.read_text(encoding="utf-8"))["files"] if Path(name).name == name]
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{record} is no record of a run: remove it, or choose another --output_dir.") from error


def foreign_files(folder: str | Path) -> list[Path]:
    """What lies in a folder besides the record of a run and the files that it names; the path itself if it is a file.

    Raises:
        ValueError: The record cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return [folder] if folder.exists() else []
    return [folder / name for name in list_content(folder) if name not in (RECORD, *last_files(folder))]


@dataclass(frozen=True)
class Run:
    """What a run was started with.

    Attributes:
        command: The command line, quoted as a shell reads it.
        arguments: Values by name.
        loaded: Folders, files and hub names of all weights that it loads.
        started: As of `time.perf_counter`.
    """

    command: str
    arguments: Mapping
    loaded: tuple[str, ...]
    started: float

    @classmethod
    def start(cls, argv: Sequence[str] | None, arguments: Mapping, loaded: Iterable[str | Path | None]) -> "Run":
        """
        Args:
            argv: Of `main`; None for that of the process.
            arguments: Values by name, as `vars(args)`.
            loaded: Folders, files and hub names of all that is loaded; None is passed over.
        """
        names = tuple(dict.fromkeys(str(name) for name in loaded if name is not None))
        return cls(command_line(argv), dict(arguments), names, time.perf_counter())

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.started

    @cached_property
    def weights(self) -> dict[str, dict[str, str]]:
        """For each name that is loaded the sha256 of each of its files, by their path in it."""
        return {name: hash_weights(name) for name in self.loaded}

    def write(self, path: str | Path, files: Iterable[str | Path] = (), **facts) -> Path:
        """Write the record as JSON: command, arguments, seed, files, seconds, weights, versions.

        Args:
            files: What the run wrote; they are named relative to the record.
            facts: More to say, as JSON can hold it; they replace entries of the same name, such as `seed`.
        """
        path = Path(path)
        record = {"command": self.command, "arguments": self.arguments, "seed": self.arguments.get("seed")}
        record |= {"files": [os.path.relpath(file, path.parent) for file in files]}
        record |= {"seconds": round(self.seconds, 2)} | facts
        record |= {"weights": self.weights, "versions": versions()}
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(record, indent=2, default=str, ensure_ascii=False) + "\n", encoding="utf-8")
        return path


def command_line(argv: Sequence[str] | None) -> str:
    """The command of this process, or the one that would call its script with `argv`."""
    return shlex.join(["python", sys.argv[0], *(sys.argv[1:] if argv is None else map(str, argv))])


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change the results."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def hash_weights(name: str | Path) -> dict[str, str]:
    """sha256 of each file of weights in a folder, a file, or a repository of the hub that is on this machine.

    Of a base only the parts that its index names are read, and of each the files without a variant.
    """
    root = _local(name)
    if root is None:
        return {}
    if root.is_file():
        return {root.name: _sha256(root)}
    index = index_of(root)
    parts = [root / part for part, value in index.items() if isinstance(value, list)] if index else [root]
    files = [file for part in parts for file in sorted(part.rglob("*"))]
    return {str(file.relative_to(root)): _sha256(file) for file in _preferred(files) if not _in_checkpoint(file, root)}


def hash_content(path: str | Path) -> str | None:
    """sha256 of a file, or of the names and contents of the files in a folder; None where there is neither."""
    path = Path(path)
    if not is_folder(path):
        return _digest(path) if is_file(path) else None
    files = [f"{file.name} {_digest(file)}" for file in sorted(path.iterdir()) if file.is_file()]
    return hashlib.sha256("\n".join(files).encode()).hexdigest()


def _in_checkpoint(file: Path, root: Path) -> bool:
    return any(part.startswith("checkpoint-") for part in file.relative_to(root).parts)


def _preferred(files: list[Path]) -> list[Path]:
    """The weights among them; where a folder has safetensors, these."""
    files = [file for file in files if WEIGHTS.fullmatch(file.name) and file.is_file()]
    safe = {file.parent for file in files if file.suffix == ".safetensors"}
    return [file for file in files if file.suffix != ".bin" or file.parent not in safe]


def _local(name: str | Path) -> Path | None:
    if Path(name).exists():
        return Path(name)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(name), local_files_only=True))
    except (OSError, ValueError):  # it is not here, or the name is none: what loads it says so
        return None


def _sha256(path: Path) -> str:
    """Files of the hub's cache are named by it."""
    blob = path.resolve()
    return blob.name if HASH.fullmatch(blob.name) else _digest(path)


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
