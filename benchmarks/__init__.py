"""Measurements: commands that print a table and write it as JSON, Markdown and pictures."""
