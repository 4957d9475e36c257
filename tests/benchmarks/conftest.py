"""The tiny models of the pipelines' tests."""

import importlib.util
from pathlib import Path

_path = Path(__file__).resolve().parent.parent / "pipelines" / "conftest.py"
_spec = importlib.util.spec_from_file_location("tests_pipelines_conftest", _path)
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)

folders = _module.folders
