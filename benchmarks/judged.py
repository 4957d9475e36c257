"""Judges of an evaluation, loaded when a task first needs them."""

import argparse
from functools import cached_property

from utils.judges import load_judge


class JudgedBench:
    """What tasks share, by the arguments of the command: here the judges of --judges_dir."""

    def __init__(self, args: argparse.Namespace):
        self.args = args

    @cached_property
    def video_judge(self):
        return self.load_judge("video")

    @cached_property
    def attribute_judge(self):
        return self.load_judge("attributes")

    @cached_property
    def depth_judge(self):
        return self.load_judge("depth")

    def load_judge(self, name: str):
        return load_judge(f"{self.args.judges_dir}/{name}.safetensors", name, self.args.device)
