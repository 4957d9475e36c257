"""Flags that evaluations share, and checks that need no model."""

import argparse
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from utils.arguments import filled, positive_int, seed
from utils.commands.argument_groups import add_machine_arguments
from utils.pretrained import shipped
from utils.scenes import UNSEEN

# Flags that decide no result.
NO_SETTINGS = (
    "tasks", "methods", "name", "device", "output_dir", "cache_dir", "compare_to", "overwrite", "config",
)  # fmt: skip


def add_run_arguments(parser: argparse.ArgumentParser, batch_size: int) -> None:
    """Output, machine, noise and batch; batch_size: the default."""
    add = parser.add_argument
    add("--output_dir", type=filled, required=True, help="folder of the results; a run that was stopped goes on in it")
    add("--overwrite", action="store_true", help="drop results of other settings in --output_dir")
    add("--batch_size", type=positive_int, default=batch_size, help="samples at once")
    add("--seed", type=seed, default=0, help="noise seed; sample i has the seed --seed + i")
    add_machine_arguments(parser)


def add_clip_arguments(
    parser: argparse.ArgumentParser, number: int, things: str = "clips", leave_out: Collection[str] = ()
) -> None:
    """Clips of the procedural world.

    Args:
        number: Default of --num_clips or --num_scenes.
        things: "clips" or "scenes".
        leave_out: Names of flags that the evaluation does not have.
    """
    flags = {
        f"num_{things}": {"default": number, "help": f"number of {things}"},
        "num_frames": {"default": 8, "help": "frames of a clip"},
        "resolution": {"default": 64, "help": "side of a frame in pixels"},
    }
    for name, options in flags.items():
        if name not in leave_out:
            parser.add_argument(f"--{name}", type=positive_int, **options)
    add_seed_argument(parser, things)
    if "cache_dir" not in leave_out:
        parser.add_argument("--cache_dir", default="cache", help=f"folder of all caches, for rendered {things}")


def add_seed_argument(parser: argparse.ArgumentParser, things: str) -> None:
    shown = f"seed of the first of the {things}; choose settings on other ones"
    parser.add_argument("--first_seed", type=int, default=UNSEEN, help=shown)


def add_choice_argument(parser: argparse.ArgumentParser, tasks: Iterable[str], default: str = "all") -> None:
    """--tasks; default: which ones, in words, where none is given."""
    parser.add_argument("--tasks", nargs="+", choices=list(tasks), help=f"tasks to measure (default: {default})")


def add_judges_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--judges_dir", default=shipped("judges"), help="folder of the judges")


def check_count(args: argparse.Namespace, name: str, least: int) -> None:
    """Raises ValueError for a number below `least`."""
    if getattr(args, name) < least:
        raise ValueError(f"--{name} {getattr(args, name)} is too few: pass {least} or more.")


def check_part(args: argparse.Namespace, name: str, whole: str) -> None:
    """Raises ValueError for a number that is more than another one of which it is a part."""
    if getattr(args, name) > getattr(args, whole):
        raise ValueError(f"--{name} {getattr(args, name)} is more than --{whole} {getattr(args, whole)}: lower it.")


def check_name(name: str | None, chosen: Sequence[str], known: Collection[str], flag: str) -> None:
    """Raises ValueError for a --name of results that are of several methods, or that is a method's own.

    Args:
        name: None for none.
        chosen: The methods to measure, as `flag` has them.
        known: All methods.
    """
    if name and (len(chosen) > 1 or Path(name).name != name):
        raise ValueError(f"--name {name} names the results of one method and no folder: pass a single one in {flag}.")
    if name in known and name != chosen[0]:
        raise ValueError(f"--name {name} is the name of another method than {chosen[0]}: choose another name.")


def check_file(path: str | Path, what: str, remedy: str) -> None:
    """Raises FileNotFoundError for a file or folder that is not there."""
    if not Path(path).exists():
        raise FileNotFoundError(f"There is no {what} {path}: {remedy}.")


def judge_files(judges_dir: str, names: Iterable[str]) -> list[Path]:
    """Files of judges by name."""
    return [Path(judges_dir, f"{name}.safetensors") for name in names]


def check_judges(judges_dir: str, names: Iterable[str]) -> None:
    """Raises FileNotFoundError for a judge that is not there."""
    for path in judge_files(judges_dir, names):
        check_file(path, "judge", "train one with train_models/train_judges.py")


def weight_files(path: str | Path | None) -> list[Path]:
    """Weights and configuration at a path to a file or a folder; none without a path."""
    if path is None or Path(path).is_file():
        return [Path(path)] if path else []
    return [*Path(path).glob("*.safetensors"), *Path(path).glob("config.json")]
