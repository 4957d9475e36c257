"""What --help and the defaults of the train scripts promise."""

import importlib
from pathlib import Path

import pytest

from utils.arguments import name_defaults

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(path.stem for path in (REPOSITORY / "train_models").glob("train_*.py"))


def parser_of(script):
    return importlib.import_module(f"train_models.{script}").make_parser()


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_names_every_default(script):
    parser = parser_of(script)
    name_defaults(parser)
    optional = [action for action in parser._actions if not action.required and action.dest != "help"]
    helps = {action.option_strings[0]: action.help for action in optional}
    assert not [flag for flag, text in helps.items() if "default: " not in (text or "")]
    parser.format_help()


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_flag_says_what_it_is(script):
    """A help begins with its thing: not "of the noise"."""
    helps = {action.option_strings[0]: action.help for action in parser_of(script)._actions}
    assert not [flag for flag, text in helps.items() if not text or text.startswith(("of ", "by default", "as "))]


@pytest.mark.parametrize("script", SCRIPTS)
def test_embedded_weights_are_found_from_any_folder(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    defaults = [str(action.default) for action in parser_of(script)._actions]
    folders = [default for default in defaults if "weights/" in default]
    assert all(Path(folder).is_dir() for folder in folders)
