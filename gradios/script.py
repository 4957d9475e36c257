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


def weight(flag: str, text: str, *own: str):
    """A field of such a dataclass.

    Args:
        flag: The name of its flag.
        text: The help of the flag.
        own: What of `weights/` is the default; nothing: an empty name; several: the value is a tuple.
    """

    def default() -> str | tuple[str, ...]:
        found = tuple(map(shipped, own))
        return found if len(found) > 1 else "".join(found)

    return field(default_factory=default, metadata={"flag": flag, "help": text})


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
            default = one.default_factory()
            several = {"nargs": "+"} if isinstance(default, tuple) else {}
            group.add_argument(f"--{one.metadata['flag']}", default=default, help=one.metadata["help"], **several)
        add_server_arguments(parser)
        return parser

    def main(self, argv: list[str] | None = None) -> None:
        """Opens the page."""
        args = parse_args(self.parser(), argv)
        own = self.weights(*(_hashable(getattr(args, one.metadata["flag"])) for one in fields(self.weights)))
        if self.check is not None:
            self.check(own)
        serve([self.page(own)], args)


def _hashable(value: str | list[str]) -> str | tuple[str, ...]:
    return tuple(value) if isinstance(value, list) else value
