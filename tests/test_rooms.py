"""Beside another project's files with the names of our packages: what needs ours says which file hides them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from utils import rooms

REPOSITORY = Path(__file__).resolve().parents[1]


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, check=False, cwd=folder, env=environment, capture_output=True, text=True)


def write(path: Path, text: str = "theirs = True\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


HIDING = ["utils.py", "utils/__init__.py", "models.py", "models/__init__.py", "patch.py", "unimatch/__init__.py"]
IMPORTS = {
    "utils.py": "import pipelines.pipeline_stable_video_diffusion_joint",
    "models/__init__.py": "from pipelines.pipeline_stable_video_diffusion_controlnet import VideoRequest",
    "patch.py": "import models.tiny_sd",
    "models.py": "from train_models import train_svd",
    "unimatch/__init__.py": "from benchmarks import flops",
}


@pytest.mark.parametrize("name", HIDING)
@pytest.mark.parametrize("as_script", [True, False])
def test_one_sentence_names_the_file_and_the_way_out(tmp_path, name, as_script):
    hiding = write(tmp_path / name)
    text = IMPORTS.get(name, "import run_models.run_depth_image")
    script = write(tmp_path / "script.py", f"{text}\n")
    done = python(tmp_path, *([str(script)] if as_script else ["-c", text]))
    room = Path(name).parts[0].removesuffix(".py")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"ImportError: {hiding} hides the package {room} of this project, which has the same name: rename it, or put "
        f'sys.path.insert(0, "{REPOSITORY}") before the first import of this project.'
    )


def test_the_way_out_works(tmp_path):
    write(tmp_path / "utils.py")
    way_out = f'import sys\nsys.path.insert(0, "{REPOSITORY}")\n'
    script = write(tmp_path / "script.py", f"{way_out}import pipelines\nfrom utils.rooms import ROOMS\n")
    assert python(tmp_path, str(script)).returncode == 0


@pytest.mark.parametrize("command", ["run_models.run_depth_image", "train_models.train_svd", "benchmarks.flops"])
def test_a_command_ends_with_that_sentence_alone(tmp_path, command):
    hiding = write(tmp_path / "utils.py")
    done = python(tmp_path, "-m", command, "--help")
    assert done.returncode == 1
    assert done.stderr.startswith(f"{hiding} hides the package utils") and len(done.stderr.splitlines()) == 1


def test_a_module_that_was_imported_before_hides_ours_too(tmp_path):
    hiding = write(tmp_path / "utils.py")
    text = f"import sys, utils; sys.path.insert(0, {str(REPOSITORY)!r}); import pipelines"
    assert f"ImportError: {hiding} hides the package utils" in python(tmp_path, "-c", text).stderr


def test_a_folder_of_theirs_without_code_hides_an_installed_package(tmp_path, monkeypatch):
    """A finder of editable installs comes after that of folders."""
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.setattr(rooms, "ROOMS", ("models",))
    monkeypatch.delitem(sys.modules, "models", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(ImportError, match=f"^{folder} hides the package models of this project"):
        rooms.check_rooms(REPOSITORY)


def test_ours_are_found():
    rooms.check_rooms(REPOSITORY)
