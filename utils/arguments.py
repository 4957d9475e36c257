"""Command lines that may also be read from a YAML file."""

import argparse
import difflib
import math
import sys
from collections.abc import Callable
from pathlib import Path

import yaml

from utils.text import read_text

REPOSITORY = Path(__file__).resolve().parent.parent
DTYPES = ("float32", "float16", "bfloat16")


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
    name_defaults(parser)
    if config.config is None:
        return parser.parse_args(rest)
    return parser.parse_args(["--config", config.config, *config_arguments(parser, config.config), *rest])


def make_parser(doc: str) -> argparse.ArgumentParser:
    """A parser that shows the docstring of its script as it is."""
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def name_defaults(parser: argparse.ArgumentParser) -> None:
    """Add its default to each help text that does not name it; where the default is None the text has to say what happens."""
    for action in parser._actions:
        said = action.help or ""
        if action.required or not action.option_strings or said == argparse.SUPPRESS or "default" in said:
            continue
        if action.default in (None, argparse.SUPPRESS):
            continue
        shown = "off" if action.default is False and action.nargs == 0 else _shown(action.default)
        action.help = f"{said} (default: {shown})".strip()


def _shown(value) -> str:
    """A default as a user would type it; paths in this repository relative to it."""
    text = " ".join(map(_shown, value)) if isinstance(value, list | tuple) else str(value)
    return text.removeprefix(f"{REPOSITORY}/").replace("%", "%%")


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


def add_output_arguments(group) -> None:
    """--output_dir and --overwrite."""
    group.add_argument(
        "--output_dir", required=True, help="folder of the results and of run.json, which says how they were made"
    )
    group.add_argument("--overwrite", action="store_true", help="accept an output_dir with content")


def add_device_argument(group) -> None:
    """--device, which `utils.pretrained.choose_device` reads."""
    group.add_argument(
        "--device",
        help="device to compute on, such as cpu (default: the accelerator, or the CPU where there is none; with several "
        "processes the one that Accelerate gives to each)",
    )


def add_machine_arguments(group) -> None:
    """--device and --dtype."""
    add_device_argument(group)
    group.add_argument("--dtype", choices=DTYPES, default="float32", help="type of the networks' weights")


def add_size_arguments(group) -> None:
    """--height and --width of a video."""
    add = group.add_argument
    add("--height", type=positive_int, help="pixels (default: as --width says)")
    add(
        "--width",
        type=positive_int,
        help="pixels; what is given is resized, shape kept, and its middle cut out (default: the shape of what is given, at "
        "the model's own number of pixels)",
    )


def add_video_arguments(group) -> None:
    """--seed, --num_frames, --height, --width and --decode_chunk_size."""
    add = group.add_argument
    add("--seed", type=int, default=0, help="noise seed")
    add("--num_frames", type=positive_int, help="frames of the video (default: the model's own number)")
    add_size_arguments(group)
    add(
        "--decode_chunk_size", type=positive_int, help="frames to decode at once, fewer take less memory (default: all)"
    )
