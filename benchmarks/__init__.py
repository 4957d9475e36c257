"""Measurements: commands that print a table and write it as JSON, Markdown and pictures."""

import utils as utils  # before diffusers: it drops notices of libraries
