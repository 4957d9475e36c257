"""Data sets of rendered samples: a folder with a line of metadata for each."""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm.auto import tqdm

from utils.arguments import filled, positive_int
from utils.files import replacing
from utils.workers import map_in_order


def add_sample_arguments(parser: argparse.ArgumentParser, number: int, things: str) -> None:
    """Output, --num_samples (number: the default), seed, resolution and workers; things: "scenes" or "clips"."""
    add = parser.add_argument
    add("--output_dir", type=filled, required=True, help="new folder")
    add("--num_samples", type=positive_int, default=number, help=f"number of {things}")
    add("--seed", type=int, default=0, help="the first seed; the others follow it")
    add("--resolution", type=positive_int, default=64, help="side of an image in pixels")
    add("--num_workers", type=positive_int, default=1, help="processes that render")


def write_samples(
    folder: str | Path, subfolders: Sequence[str], write: Callable[[tuple], dict], tasks: Sequence, num_workers: int
) -> None:
    """Write samples and `metadata.jsonl`; the folder appears when it is complete.

    Args:
        folder: A new folder.
        subfolders: Names of its folders.
        write: From (folder, task) to the row of a sample, which it writes there.
        tasks: One for each sample.
        num_workers: Processes.

    Raises:
        FileExistsError: The folder exists.
    """
    if Path(folder).exists():
        raise FileExistsError(f"{folder} exists; choose another --output_dir or remove it.")
    with replacing(folder) as temporary:
        for name in subfolders:
            (temporary / name).mkdir(parents=True)
        rows = map_in_order(write, [(temporary, task) for task in tasks], num_workers)
        with (temporary / "metadata.jsonl").open("w") as metadata:
            for row in tqdm(rows, total=len(tasks), desc="render"):
                metadata.write(json.dumps(row) + "\n")
