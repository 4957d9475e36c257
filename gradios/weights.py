"""Weights of a page: frozen dataclasses of which its flags are made."""

import argparse
from dataclasses import field, fields

from gradios.frame import add_server_arguments
from utils.arguments import make_parser
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


def page_parser(doc: str, weights: type) -> argparse.ArgumentParser:
    """The parser of a page: a flag for each of its weights, and those of the server."""
    parser = make_parser(doc)
    group = parser.add_argument_group("weights")
    for one in fields(weights):
        group.add_argument(f"--{one.metadata['flag']}", default=one.default_factory(), help=one.metadata["help"])
    add_server_arguments(parser)
    return parser


def read_weights(weights: type, args: argparse.Namespace):
    """The weights by the arguments of `page_parser`."""
    return weights(*(getattr(args, one.metadata["flag"]) for one in fields(weights)))
