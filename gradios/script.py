"""A page as a script of its own: its flags are made of its weights, a frozen dataclass of `weight` fields."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import partial

from gradios.frame import Page, add_server_arguments, serve
from utils.arguments import make_parser, parse_args
from utils.pretrained import shipped

SD_BASE = "folder or hub name of a Stable Diffusion base"
SVD_BASE = "folder or hub name of a Stable Video Diffusion base"


def weight(flag: str, text: str, own: str = ""):
    """A field of such a dataclass.

    Args:
        flag: The name of its flag.
        text: The help of the flag.
        own: What of `weights/` is the default; empty: an empty name.
    """
    return field(default_factory=lambda: shipped(own) if own else "", metadata={"flag": flag, "help": text})


@dataclass(frozen=True)
class PageScript:
    """
    Attributes:
        doc: Docstring of the script.
        title, lead: Of the page.
        build: Puts the components of the page into the open `gr.Blocks`, from a desk and weights.
        weights: The dataclass of its weights.
        check: Raises ValueError for weights that the page cannot use.
    """

    doc: str
    title: str
    lead: str
    build: Callable
    weights: type
    check: Callable | None = None

    def page(self, own) -> Page:
        return Page(self.title, self.lead, partial(self.build, own=own))

    def parser(self) -> argparse.ArgumentParser:
        parser = make_parser(self.doc)
        group = parser.add_argument_group("weights")
        for one in fields(self.weights):
            group.add_argument(f"--{one.metadata['flag']}", default=one.default_factory(), help=one.metadata["help"])
        add_server_arguments(parser)
        return parser

    def main(self, argv: list[str] | None = None) -> None:
        """Opens the page."""
        args = parse_args(self.parser(), argv)
        own = self.weights(*(getattr(args, one.metadata["flag"]) for one in fields(self.weights)))
        if self.check is not None:
            self.check(own)
        serve([self.page(own)], args)
