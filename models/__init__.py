"""Networks that a patch cannot express, and the sizes of the tiny models."""

from pathlib import Path
from runpy import run_path

run_path(str(Path(__file__).parents[1] / "utils" / "rooms.py"))["enter"]()
