"""A YAML file in the place of flags of a command line."""

import argparse
import difflib
from pathlib import Path

import yaml

from utils.formats.text import read_text


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
