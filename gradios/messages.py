"""What a page says of a failure: one sentence, without any path of the machine it runs on."""

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import gradio as gr

from gradios.running import StoppedError
from utils.arguments import REPOSITORY

FAILURES = (ValueError, OSError, FloatingPointError, ImportError)  # as `utils.arguments.run_script`
ABSOLUTE = re.compile(r"(?<![\w.:/\\])(?:[A-Za-z]:)?(?:[\\/][^\s\\/'\",;:()\[\]{}]+)+[\\/]?")
UNEXPECTED = "The run failed for a reason that is no fault of what you passed; the terminal of the server has it."


def refuse(sentence: str) -> gr.Error:
    """The error that a client gets; the page shows its sentence where the progress was."""
    return gr.Error(sentence, visible=False, print_exception=False)


def hide_paths(text: str, names: Mapping[str, str] | None = None) -> str:
    """A text whose paths are relative to the repository, or the last part of them alone.

    Args:
        names: What files are called, by their paths.
    """
    for path, name in sorted((names or {}).items(), key=lambda item: -len(item[0])):
        text = text.replace(path, name)
    text = text.replace(f"{REPOSITORY}/", "")
    return ABSOLUTE.sub(lambda match: Path(match[0].replace("\\", "/")).name, text)


def hide_in(value, names: Mapping[str, str] | None = None):
    """`hide_paths` in all texts of a JSON value, keys too."""
    if isinstance(value, str):
        return hide_paths(value, names)
    if isinstance(value, Mapping):
        return {hide_in(key, names): hide_in(part, names) for key, part in value.items()}
    return [hide_in(part, names) for part in value] if isinstance(value, list | tuple) else value


@contextmanager
def one_sentence(names: Mapping[str, str] | None = None) -> Iterator[None]:
    """Within it what fails becomes one sentence for the page; the server's log has what was not foreseen.

    Args:
        names: What files are called, by their paths.
    """
    try:
        yield
    except (gr.Error, StoppedError):
        raise
    except FAILURES as error:
        raise refuse(hide_paths(str(error), names)) from None
    except Exception as error:
        logging.getLogger(__name__).exception("A page failed.")
        raise refuse(UNEXPECTED) from error
