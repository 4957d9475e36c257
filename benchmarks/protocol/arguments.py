"""Flags that evaluations share, and checks that need no model."""

import argparse
from collections.abc import Iterable
from pathlib import Path

from utils.arguments import positive_int
from utils.pretrained import DTYPES, check_device
from utils.scenes import UNSEEN, check_unseen

REPOSITORY = Path(__file__).resolve().parents[2]
# Flags that decide no result.
NO_SETTINGS = (
    "tasks", "methods", "name", "device", "output_dir", "cache_dir", "compare_to", "overwrite", "config",
)  # fmt: skip


def make_parser(doc: str) -> argparse.ArgumentParser:
    """A parser whose help is the docstring of its script."""
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_run_arguments(parser: argparse.ArgumentParser, batch_size: int) -> None:
    """Output, machine, noise and batch; batch_size: the default."""
    add = parser.add_argument
    add("--output_dir", required=True, help="folder of the results; a run that was stopped goes on in it")
    add("--overwrite", action="store_true", help="drop results of other settings in --output_dir")
    add("--batch_size", type=positive_int, default=batch_size, help=f"samples at once (default: {batch_size})")
    add("--seed", type=int, default=0, help="noise seed; sample i has the seed --seed + i (default: 0)")
    add("--device", default="cpu", help="device of PyTorch (default: cpu)")
    add("--dtype", choices=DTYPES, default="float32", help="number format of the models (default: float32)")


def add_clip_arguments(parser: argparse.ArgumentParser, num_clips: int, things: str = "clips") -> None:
    """Clips of the procedural world; num_clips: the default, things: "clips" or "scenes"."""
    add = parser.add_argument
    add(f"--num_{things}", type=positive_int, default=num_clips, help=f"number of {things} (default: {num_clips})")
    add_seed_argument(parser, things)
    add("--num_frames", type=positive_int, default=8, help="frames of a clip (default: 8)")
    add("--resolution", type=positive_int, default=64, help="side of a frame in pixels (default: 64)")
    add("--cache_dir", default="cache", help=f"folder of all caches, for rendered {things} (default: cache)")


def add_seed_argument(parser: argparse.ArgumentParser, things: str) -> None:
    parser.add_argument(
        "--first_seed",
        type=int,
        default=UNSEEN,
        help=f"seed of the first of the {things}; choose settings on other ones (default: {UNSEEN})",
    )


def add_choice_argument(parser: argparse.ArgumentParser, tasks: Iterable[str], default: str = "all") -> None:
    """--tasks; default: which ones, in words, where none is given."""
    parser.add_argument("--tasks", nargs="+", choices=list(tasks), help=f"tasks to measure (default: {default})")


def check_run(args: argparse.Namespace) -> None:
    """Raises ValueError for a device that is not there, or for scenes that a training may have seen."""
    check_device(args.device)
    check_unseen(args.first_seed)


def check_count(args: argparse.Namespace, name: str, least: int) -> None:
    if getattr(args, name) < least:
        raise ValueError(f"--{name} {getattr(args, name)} is too few: pass {least} or more.")


def check_file(path: str | Path, what: str, remedy: str) -> None:
    """Raises FileNotFoundError for a file or folder that is not there."""
    if not Path(path).exists():
        raise FileNotFoundError(f"There is no {what} {path}: {remedy}.")


def judge_files(judges_dir: str, names: Iterable[str]) -> list[Path]:
    """Files of judges by name."""
    return [Path(judges_dir, f"{name}.safetensors") for name in names]


def check_judges(judges_dir: str, names: Iterable[str]) -> None:
    for path in judge_files(judges_dir, names):
        check_file(path, "judge", "train one with train_models/train_judges.py")


def weight_files(path: str | Path | None) -> list[Path]:
    """Weights and configuration at a path to a file or a folder; none without a path."""
    if path is None or Path(path).is_file():
        return [Path(path)] if path else []
    return [*Path(path).glob("*.safetensors"), *Path(path).glob("config.json")]
