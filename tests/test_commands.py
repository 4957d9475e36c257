"""What all commands promise: help with all defaults, one meaning of --device, no notices of libraries on stderr."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from utils.arguments import make_parser, name_defaults
from utils.commands.argument_groups import add_device_argument

REPOSITORY = Path(__file__).resolve().parent.parent
ROOMS = ("run_models", "benchmarks", "train_models", "utils", "gradios")
COMMANDS = [
    path
    for room in ROOMS
    for path in sorted((REPOSITORY / room).rglob("*.py"))
    if path.read_text().rstrip().endswith("run_script(main)")
]


def module_name(path):
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)


def parser_of(path):
    module = importlib.import_module(module_name(path))
    parser = (getattr(module, "parser", None) or module.make_parser)()
    name_defaults(parser)
    return parser


@pytest.mark.parametrize("path", COMMANDS, ids=module_name)
def test_every_help_names_every_default(path):
    for action in parser_of(path)._actions:
        if action.required or not action.option_strings or action.dest == "help":
            continue
        assert action.help and "default" in action.help, action.option_strings[0]


@pytest.mark.parametrize("path", COMMANDS, ids=module_name)
def test_device_means_the_same_everywhere(path):
    due = make_parser("")
    add_device_argument(due)
    name_defaults(due)
    wanted = due._option_string_actions["--device"]
    found = parser_of(path)._option_string_actions.get("--device")
    assert found is None or (found.help, found.default) == (wanted.help, wanted.default)


def test_the_defaults_of_a_help_are_the_values_themselves(capsys):
    parser = make_parser("Text.")
    parser.add_argument("--number", type=float, default=0.5, help="a number")
    parser.add_argument("--many", nargs="+", default=[1, 2], help="some")
    parser.add_argument("--switch", action="store_true", help="a switch")
    parser.add_argument("--folder", default=str(REPOSITORY / "weights/tiny_sd"), help="a folder")
    parser.add_argument("--share", default="50%")
    parser.add_argument("--own", help="said here (default: the model's)")
    name_defaults(parser)
    name_defaults(parser)
    parser.print_help()
    text = " ".join(capsys.readouterr().out.split())
    for said in ("a number (default: 0.5)", "some (default: 1 2)", "a switch (default: off)"):
        assert text.count(said) == 1
    assert "a folder (default: weights/tiny_sd)" in text and "(default: 50%)" in text
    assert text.count("(default: the model's)") == 1


def imported_from(node):
    return node.module if isinstance(node, ast.ImportFrom) else ""


@pytest.mark.parametrize("path", [path for path in COMMANDS if path.parent.name.endswith("_models")], ids=module_name)
def test_scripts_import_pipelines_of_libraries_after_ours_which_drop_their_notices(path):
    ours = False
    for node in ast.parse(path.read_text()).body:
        ours = ours or bool(re.match(r"(patch|models|pipelines|utils)\b", imported_from(node)))
        if imported_from(node) == "diffusers" and not ours:
            assert not [one.name for one in node.names if one.name.endswith("Pipeline")]


def test_a_command_writes_nothing_of_libraries_to_stderr(tmp_path):
    command = [sys.executable, "run_models/run_depth_image.py", "--output_dir", str(tmp_path / "out")]
    command += ["--num_inference_steps", "1", "--num_images_per_prompt", "1", "--device", "cpu"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    lines = [line for line in re.split(r"[\r\n]+", done.stderr) if line.strip("\x1b[A ")]
    assert not [line for line in lines if "%|" not in line], done.stderr
