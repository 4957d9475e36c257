"""Sampling: subclasses of diffusers pipelines that own their denoising loop."""

from pathlib import Path
from runpy import run_path

# Stops with an ImportError where a package of another project hides one of this project.
run_path(str(Path(__file__).parents[1] / "utils" / "rooms.py"))["enter"]()
