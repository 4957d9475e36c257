"""How results came about, and the one shape of `results.json`.

{
  "evaluation": "eval_svd",
  "runs": [{"date": "2026-01-31T12:00:00+00:00", "command": "python -m benchmarks.eval_svd …", "machine": {…}}, …],
  "settings": {…},                                   what decides the results
  "counts": {"samples": 500, …},                     number of samples of a row, where it has one
  "results": {"samples": {"motion": FIGURE, …}, …}   rows, and in each its figures
}

A FIGURE is a number, or an object with "mean" or "median" and the ends "low" and "high" of an interval.
"""

import json
import os
import platform
import shlex
import sys
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from benchmarks.protocol.folder import write_text
from utils.commands.results import versions


def make_run(name: str, argv: list[str] | None, device: str = "cpu") -> dict:
    """A record of a command: date, command line and machine.

    Args:
        name: Of the script, without its folder and suffix.
        argv: Its arguments; by default those of the process.
        device: On which it computes.
    """
    arguments = sys.argv[1:] if argv is None else argv
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "-m", f"benchmarks.{name}", *arguments]),
        "machine": describe_machine(device),
    }


def describe_machine(device: str = "cpu") -> dict:
    """What a timing depends on."""
    kind, name = torch.device(device), platform.processor() or platform.machine()
    if kind.type != "cpu":
        name = torch.get_device_module(kind).get_device_name(kind)
    return {
        "processor": name,
        "device": kind.type,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
        **versions(),
    }


def note_run(folder: Path, run: dict) -> None:
    """Append a run to those that the results of a folder come from."""
    with (folder / "runs.jsonl").open("a") as file:
        file.write(json.dumps(run) + "\n")


def read_runs(folder: Path) -> list[dict]:
    """Runs of a folder; none of a folder that is older than these records."""
    path = folder / "runs.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def write_results(
    path: Path,
    name: str,
    runs: list[dict],
    settings: dict,
    results: dict[str, dict],
    counts: dict[str, int] | None = None,
) -> None:
    """Write a `results.json`; figures may be `Estimate`s."""
    plain = {
        row: {key: asdict(value) if is_dataclass(value) else value for key, value in figures.items()}
        for row, figures in results.items()
    }
    content = {"evaluation": name, "runs": runs, "settings": settings, "counts": counts or {}, "results": plain}
    write_text(path, json.dumps(content, indent=2) + "\n")
