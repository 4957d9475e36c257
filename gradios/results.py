"""What a page hands out: the files of a run with its record, in one archive."""

import json
import shlex
import shutil
import time
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch

from gradios.messages import hide_in
from utils.commands.results import RECORD, Run
from utils.weights.embedded import doubt_photograph

INPUTS = "inputs"


def keep_input(folder: Path, path: str, name: str) -> str:
    """Copy what was sent into the folder of a run, and return its name there, as commands take it."""
    kept = folder / INPUTS / f"{name}{Path(path).suffix.lower() or '.png'}"
    kept.parent.mkdir(exist_ok=True)
    shutil.copyfile(path, kept)
    return f"{INPUTS}/{kept.name}"


def start_run(script: str, argv: Sequence[str], values: Mapping, loaded: Iterable[str]) -> Run:
    """The run of a page.

    Args:
        script: Command that makes the same, such as "run_models/run_trajectory.py".
        argv: Its arguments.
        values: What the page was asked for.
        loaded: All weights.
    """
    command = shlex.join(["python", script, *argv, "--output_dir", "again"])
    return Run(command, dict(values), tuple(dict.fromkeys(loaded)), time.perf_counter())


def pack(folder: Path, run: Run, files: Sequence[Path], title: str, **facts) -> str:
    """Write the record and an archive of the folder; returns the archive.

    Args:
        files: What was made.
        title: Name of the archive.
        facts: More for the record.
    """
    record = run.write(folder / RECORD, files, **facts)
    content = hide_in(json.loads(record.read_text(encoding="utf-8")))
    record.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    archive = folder / f"{title}.zip"
    inside = [path for path in sorted(folder.rglob("*")) if path.is_file() and path != archive]
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in inside:
            file.write(path, path.relative_to(folder))
    return str(archive)


def doubts(base: str, pixels: torch.Tensor, name: str) -> list[str]:
    """A sentence where a small base gets an image (3, H, W) in [-1, 1] of something that it has never seen.

    Args:
        name: What the page calls the image.
    """
    doubt = doubt_photograph(base, pixels, name, "start with {}")
    return [doubt] if doubt else []
