"""Command lines that may also be read from a YAML file."""

import argparse
import difflib
import math
import sys
from collections.abc import Callable
from pathlib import Path

import yaml

from utils.text import read_text


def parse_args(parser: argparse.ArgumentParser, argv: list[str] | None = None) -> argparse.Namespace:
    """Parse `argv`; `--config file.yaml` gives values for flags that the command line leaves out.

    The file is one mapping from flag names (without dashes) to values. Its values pass through argparse like typed ones,
    so `1e-4`, which YAML reads as a string, becomes a float, and choices are checked. A switch takes true or false.

    Raises:
        ValueError: The file holds an unknown key, or a value that is not a scalar or a list.
        FileNotFoundError: There is no such file.
    """
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config")
    config, rest = finder.parse_known_args(argv)
    if not any("--config" in action.option_strings for action in parser._actions):
        parser.add_argument("--config", help="YAML file with values for these flags; the command line wins")
    if config.config is None:
        return parser.parse_args(rest)
    return parser.parse_args(["--config", config.config, *config_arguments(parser, config.config), *rest])


def run_script(main: Callable[[], object]) -> None:
    """Run the `main` of a script; what it refuses, or lacks, ends it with one line. `python -X dev` shows the traceback."""
    try:
        main()
    except (ValueError, OSError, FloatingPointError, ImportError) as error:
        if sys.flags.dev_mode:
            raise
        sys.exit(f"error: {error}")


def config_arguments(parser: argparse.ArgumentParser, path: str | Path) -> list[str]:
    """The mapping in a YAML file as command line arguments of `parser`."""
    try:
        values = yaml.safe_load(read_text(Path(path))) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}.") from error
    except RecursionError as error:
        raise ValueError(f"{path} has lists or mappings nested too deep; write flags and their values.") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected a mapping from flag names to values, found a {type(values).__name__}.")
    flags = {option.lstrip("-"): action for action in parser._actions for option in action.option_strings}
    arguments = []
    for key, value in values.items():
        if key not in flags:
            raise ValueError(f"{path}: unknown key {key!r}{_suggestion(key, flags)}.")
        arguments += _as_arguments(path, key, value, flags[key])
    return arguments


def _as_arguments(path, key: str, value, action: argparse.Action) -> list[str]:
    if value is None:
        return []
    if action.nargs == 0 or isinstance(action, argparse.BooleanOptionalAction):
        return _switch(path, key, value, action)
    if isinstance(value, list):
        return [f"--{key}", *map(str, value)]
    if isinstance(value, dict):
        raise ValueError(f"{path}: {key} must be one value or a list, not a mapping.")
    return [f"--{key}={value}"]


def _switch(path, key: str, value, action: argparse.Action) -> list[str]:
    if not isinstance(value, bool):
        raise ValueError(f"{path}: {key} is a switch and takes true or false, not {value!r}.")
    if value:
        return [f"--{key}"]
    return [f"--no-{key}"] if isinstance(action, argparse.BooleanOptionalAction) else []


def _suggestion(key, flags) -> str:
    close = difflib.get_close_matches(str(key), flags, n=1)
    return f"; did you mean {close[0]!r}?" if close else "; see --help for the flags"


def positive_int(text: str) -> int:
    """An argparse type for counts."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return value


def positive_float(text: str) -> float:
    """An argparse type for rates and durations."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return value
