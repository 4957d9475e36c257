"""A YAML file in the place of flags of a command line."""

import argparse
import difflib
from pathlib import Path
from typing import ClassVar

import yaml

from utils.formats.text import read_text


def config_arguments(parser: argparse.ArgumentParser, path: str | Path) -> list[str]:
    """The mapping in a YAML file as command line arguments of `parser`."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"--config {path} is no file: name a YAML file.")
    try:
        values = yaml.load(read_text(Path(path)), _AsTyped) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}.") from error
    except RecursionError as error:
        raise ValueError(f"{path} has lists or mappings nested too deep; write flags and their values.") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected a mapping from flag names to values, found a {type(values).__name__}.")
    flags = {option.lstrip("-"): action for action in parser._actions for option in action.option_strings}
    arguments = []
    for key, value in values.items():
        if key == "config" and value is not None:
            raise ValueError(f"{path}: config names another file, which is not read: put its values here.")
        if key not in flags:
            raise ValueError(f"{path}: unknown key {key!r}{_suggestion(key, flags)}.")
        arguments += _as_arguments(path, key, value, flags[key])
    return arguments


class _AsTyped(yaml.SafeLoader):
    """Reads true, false and null; numbers and all else are text as it stands in the file, as on a command line.

    Raises `yaml.YAMLError` for a key that is there twice.
    """

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] in ("bool", "null", "merge")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node, deep=False):
        names = [key.value for key, _ in node.value]
        if twice := [name for name in names if names.count(name) > 1]:
            raise yaml.YAMLError(f"{twice[0]} is there twice")
        return super().construct_mapping(node, deep)


def _as_arguments(path, key: str, value, action: argparse.Action) -> list[str]:
    if value is None:
        return []
    if action.nargs == 0 or isinstance(action, argparse.BooleanOptionalAction):
        return _switch(path, key, value, action)
    several = action.nargs not in (None, "?")
    if isinstance(value, list) and not (several and value):
        raise ValueError(f"{path}: {key} takes {'a value or more' if several else 'one value'}, not the list {value}.")
    if isinstance(value, dict):
        raise ValueError(f"{path}: {key} must be one value or a list, not a mapping.")
    values = value if isinstance(value, list) else [value]
    if wrong := [one for one in values if not isinstance(one, str)]:
        remedy = "put text in quotes" if isinstance(wrong[0], bool) else "write one value, or a list of values"
        raise ValueError(f"{path}: {key} is {wrong[0]!r}, which is no value of it: {remedy}.")
    return [f"--{key}", *values] if isinstance(value, list) else [f"--{key}={value}"]


def _switch(path, key: str, value, action: argparse.Action) -> list[str]:
    if not isinstance(value, bool):
        raise ValueError(f"{path}: {key} is a switch and takes true or false, not {value}.")
    if value:
        return [f"--{key}"]
    return [f"--no-{key}"] if isinstance(action, argparse.BooleanOptionalAction) else []


def _suggestion(key, flags) -> str:
    close = difflib.get_close_matches(str(key), flags, n=1)
    return f"; did you mean {close[0]!r}?" if close else "; see --help for the flags"
