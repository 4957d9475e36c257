"""Frozen dataclasses whose fields have a help text, a default and a range: flags, checks and calls are made of them.

@dataclass(frozen=True)
class Loudness(Settings):
    gain: float = field(default=1.0, metadata=about("factor of all samples", low=0))

add_settings(parser, Loudness)                    # --gain, with its help and default
Loudness.from_args(parser.parse_args())           # checked
play(samples, **Loudness(gain=0.5).options())
"""

import argparse
import math
import numbers
from collections.abc import Callable, Collection
from dataclasses import Field, dataclass, fields
from typing import Self

import numpy as np
import torch

from utils.arguments import LARGEST_FLOAT


@dataclass(frozen=True)
class Rule:
    """Which values a setting takes.

    Attributes:
        kind: int, float, bool or str.
        low, high: Ends of its range, both included.
        above: A number that it exceeds, in place of `low`.
        choices: The values themselves, in place of a range.
        optional: Whether None is one.
        per_sample: Whether there may be one for each sample of a batch: a sequence or a tensor (B,), which is kept as
            a tuple.
    """

    kind: type = float
    low: float = -math.inf
    high: float = math.inf
    above: float | None = None
    choices: tuple = ()
    optional: bool = False
    per_sample: bool = False

    def allows(self, value) -> bool:
        """Whether one value is allowed; NaN and numbers that float32 cannot hold never are."""
        if self.choices:
            return value in self.choices
        if self.kind is bool:
            return isinstance(value, bool)
        number = numbers.Integral if self.kind is int else numbers.Real
        if not isinstance(value, number) or isinstance(value, bool) or not abs(value) <= LARGEST_FLOAT:
            return False
        return self.low <= value <= self.high and (self.above is None or value > self.above)

    def describe(self) -> str:
        """The allowed values, as the end of an error sentence."""
        if self.choices:
            return " or ".join(map(str, self.choices))
        if self.kind is bool:
            return "True or False"
        number = "a whole number" if self.kind is int else "a finite number"
        if self.above is not None:
            return f"{number} above {self.above:g}" + (f", at most {self.high:g}" if self.high < math.inf else "")
        if self.high < math.inf:
            return f"{number} from {self.low:g} to {self.high:g}"
        return f"{number} of {self.low:g} or more" if self.low > -math.inf else number

    def check(self, name: str, value) -> None:
        """Raises ValueError with one sentence for a value that is not allowed."""
        if value is None and self.optional:
            return
        values = value if self.per_sample and isinstance(value, tuple) else (value,)
        for one in values:
            if not self.allows(one):
                shown = f"{one:g}" if isinstance(one, float) else repr(one)
                raise ValueError(f"{name} {shown} is not allowed: pass {self.describe()}.")


def check(name: str, value, kind: type = float, **rule) -> None:
    """Raises ValueError with one sentence for a value that the rule does not allow; for numbers that are no setting."""
    Rule(kind, **rule).check(name, value)


def about(help: str, kind: type = float, unset: str | None = None, **rule) -> dict:
    """The metadata of a field of `Settings`.

    Args:
        help: What it is, for the flag's help; the default is added to it.
        kind: Of its values.
        unset: What None stands for, in words, where that is the default.
        rule: Further fields of `Rule`.
    """
    return {"help": help, "rule": Rule(kind, optional=unset is not None, **rule), "unset": unset}


class Settings:
    """Base of frozen dataclasses whose fields all have the metadata of `about`.

    Raises:
        ValueError: A value is not allowed.
    """

    def __post_init__(self):
        for one in fields(self):
            value = _plain(getattr(self, one.name))
            object.__setattr__(self, one.name, value)
            one.metadata["rule"].check(one.name, value)

    @classmethod
    def from_args(cls, args: argparse.Namespace, **given) -> Self:
        """Read from parsed arguments; `given` values win, and fields that neither has keep their default."""
        read = {name: getattr(args, name) for name in cls.names() if hasattr(args, name)}
        return cls(**read | given)

    @classmethod
    def take(cls, options: dict) -> tuple[Self, dict]:
        """Split the keyword arguments of a call into the fields of this class, as an instance, and all others."""
        own = {name: value for name, value in options.items() if name in cls.names()}
        return cls(**own), {name: value for name, value in options.items() if name not in own}

    @classmethod
    def names(cls) -> list[str]:
        return [one.name for one in fields(cls)]

    def options(self) -> dict:
        """The fields as keyword arguments of a call."""
        return {name: getattr(self, name) for name in self.names()}


def add_settings(group, kind: type[Settings], leave_out: Collection[str] = (), **defaults) -> None:
    """Add a flag for each field to a parser or a group of it.

    Args:
        leave_out: Fields without a flag.
        defaults: By field, in place of its own default.
    """
    if unknown := {*leave_out, *defaults} - set(kind.names()):
        raise TypeError(f"{kind.__name__} has no field {min(unknown)}.")
    for one in fields(kind):
        if one.name not in leave_out:
            default = defaults.get(one.name, one.default)
            group.add_argument(f"--{one.name}", default=default, help=_help(one, default), **_parsing(one))


def _parsing(one: Field) -> dict:
    rule = one.metadata["rule"]
    if rule.kind is bool:
        return {"action": argparse.BooleanOptionalAction}
    return {"type": _or_none(rule.kind) if rule.optional else rule.kind} | (
        {"choices": rule.choices} if rule.choices else {}
    )


def _or_none(kind: type) -> Callable[[str], object]:
    """Reads a value, or "none" for None, which replaces a default that is another."""

    def read(text: str):
        return None if text == "none" else kind(text)

    read.__name__ = kind.__name__  # argparse names it in its errors
    return read


def _help(one: Field, default) -> str:
    shown = one.metadata["unset"] if default is None else default
    return f"{one.metadata['help']} (default: {shown})"


def _plain(value):
    """Tensors, arrays and lists as plain numbers and tuples of them."""
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        value = value.tolist()
    return tuple(value) if isinstance(value, list) else value
