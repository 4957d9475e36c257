"""Command lines, which may also be read from a YAML file, and types of their values."""

import argparse
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from utils.commands.config_file import config_arguments

REPOSITORY = Path(__file__).resolve().parent.parent
LARGEST_FLOAT = 3.4e38  # of float32, in which the networks compute
LARGEST_SEED = 2**63 - 1


def parse_args(parser: argparse.ArgumentParser, argv: list[str] | None = None) -> argparse.Namespace:
    """Parse `argv`; `--config file.yaml` gives values for flags that the command line leaves out.

    The file is one mapping from flag names (without dashes) to values. Its values pass through argparse like typed
    ones, so `1e-4`, which YAML reads as a string, becomes a float, and choices are checked. A switch takes true or
    false.

    Flags are written in full.

    Raises:
        ValueError: The file holds an unknown key, or a value that its flag does not take, or there are two files.
        OSError: It cannot be read.
    """
    parser.allow_abbrev = False
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config", action="append")
    found, rest = finder.parse_known_args(argv)
    if found.config and len(found.config) > 1:
        raise ValueError(f"--config is given for {' and '.join(found.config)}: pass one file.")
    config = found.config[0] if found.config else None
    if not any("--config" in action.option_strings for action in parser._actions):
        parser.add_argument("--config", help="YAML file with values for these flags; the command line wins")
    name_defaults(parser)
    if config is None:
        return parser.parse_args(rest)
    return parser.parse_args(["--config", config, *config_arguments(parser, config), *rest])


def make_parser(doc: str) -> argparse.ArgumentParser:
    """A parser that shows the docstring of its script as it is."""
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def refuse_flags(args: argparse.Namespace, parser: argparse.ArgumentParser, names: Sequence[str], reason: str) -> None:
    """Raises ValueError where a flag has another value than its default; reason: the rest of the sentence."""
    for name in names:
        if getattr(args, name) != parser.get_default(name):
            raise ValueError(f"--{name} {reason}.")


def name_defaults(parser: argparse.ArgumentParser) -> None:
    """Add its default to each help text that does not name it.

    Where the default is None the text has to say what happens.
    """
    parser.formatter_class = argparse.RawDescriptionHelpFormatter  # others may add defaults once more
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
    """Run the `main` of a script; what it refuses, or lacks, ends it with one line.

    `python -X dev` shows the traceback.
    """
    try:
        main()
    except (ValueError, OSError, FloatingPointError, ImportError) as error:
        if sys.flags.dev_mode:
            raise
        sys.exit(f"error: {error}")


def check_choice(
    parser: argparse.ArgumentParser,
    args: argparse.Namespace,
    switch: str,
    needs: Mapping[str, Sequence[Collection[str]]],
    read_by: Mapping[str, Collection[str]],
) -> None:
    """Raises ValueError where flags contradict the choice of another flag, such as --mode.

    Args:
        parser: The parser of the arguments, for their defaults.
        switch: Name of that other flag.
        needs: By choice, groups of flags of which it needs one each.
        read_by: By flag, the choices that read it; under any other choice it must have its default.
    """
    choice = getattr(args, switch)
    for names in needs.get(choice, ()):
        if not any(getattr(args, name) for name in names):
            raise ValueError(f"--{switch} {choice} needs {_listed([f'--{name}' for name in names], 'or')}.")
    for name, choices in read_by.items():
        if choice not in choices and getattr(args, name) != parser.get_default(name):
            shown = _listed(list(choices), "and")
            raise ValueError(f"--{name} applies to --{switch} {shown}; remove it or change --{switch} {choice}.")


def check_needs(
    parser: argparse.ArgumentParser,
    args: argparse.Namespace,
    needs: Sequence[tuple[Collection[str], Callable[[argparse.Namespace], object], str]],
) -> None:
    """Raises ValueError for a flag that nothing reads, since what it needs is missing.

    Args:
        parser: The parser of the arguments, for their defaults.
        needs: Flags, whether the arguments have what they need, and what that is, in words. A parser may lack some.
    """
    for names, met, needed in needs:
        passed = [name for name in names if getattr(args, name, None) != parser.get_default(name)]
        if passed and not met(args):
            raise ValueError(f"{_typed(passed[0], getattr(args, passed[0]))} needs {needed}: pass that, or remove it.")


def _typed(name: str, value) -> str:
    """A flag with its value, as a user types it."""
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    shown = f"{value:g}" if isinstance(value, float) else _shown(value).replace("%%", "%")
    return f"--{name} {shown}"


def _listed(words: list[str], last: str) -> str:
    return f" {last} ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def filled(text: str) -> str:
    """An argparse type for names of files and folders, which are not empty."""
    if not text.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is empty: pass the name of a file or folder")
    return text


def named_path(text: str) -> str:
    """An argparse type for NAME=FILE, neither of which is empty."""
    name, _, path = text.partition("=")
    if not (name.strip() and path.strip()):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=FILE: pass both")
    return text


def maybe_named_path(text: str) -> str:
    """An argparse type for PATH or NAME=PATH; a file whose own name holds an equals sign is one."""
    return named_path(text) if "=" in text and not Path(text).exists() else filled(text)


def positive_int(text: str) -> int:
    """An argparse type for counts."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return value


def positive_float(text: str) -> float:
    """An argparse type for rates and durations."""
    value = float(text)
    if not 0 < value <= LARGEST_FLOAT:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return value


def weight(text: str) -> float:
    """An argparse type for weights of parts of a loss, of which 0 leaves one out."""
    value = float(text)
    if not 0 <= value <= LARGEST_FLOAT:
        raise argparse.ArgumentTypeError(f"{text} is not 0 or a positive number")
    return value


def finite_float(text: str) -> float:
    """An argparse type for numbers of either sign, neither nan nor infinite."""
    value = float(text)
    if not abs(value) <= LARGEST_FLOAT:
        raise argparse.ArgumentTypeError(f"{text} is not a finite number")
    return value


def seed(text: str) -> int:
    """An argparse type for seeds; those of several samples are counted up from it."""
    value = int(text)
    if not 0 <= value <= LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 0 to {LARGEST_SEED}")
    return value


def share(text: str) -> float:
    """An argparse type for shares, 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def decay(text: str) -> float:
    """An argparse type for decays of running means, 0 to below 1."""
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 0 or more and below 1")
    return value


def nonzero_float(text: str) -> float:
    """An argparse type for factors, of which 0 would leave nothing."""
    value = finite_float(text)
    if value == 0:
        raise argparse.ArgumentTypeError(f"{text} is 0")
    return value


def not_negative_int(text: str) -> int:
    """An argparse type for counts that may be 0."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return value
