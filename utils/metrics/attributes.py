"""Whether an image shows the objects that its caption lists."""

from collections.abc import Sequence
from dataclasses import dataclass

Objects = Sequence[tuple[str, str]]  # (colour, shape) from left to right


@dataclass(frozen=True)
class ObjectScore:
    """Score of an image: objects in its caption, how many have the right colour and shape, whether the number fits."""

    objects: int
    color: int
    shape: int
    count: bool


def score_objects(found: Objects, expected: Objects) -> ObjectScore:
    """Compare from left to right, place by place: the i-th object found with the i-th of the caption.

    A place where none was found is wrong in colour and shape. Objects beyond the caption's number cost `count` alone;
    one too many in front of others shifts them, and costs those too.
    """
    pairs = list(zip(found, expected, strict=False))
    return ObjectScore(
        objects=len(expected),
        color=sum(seen[0] == asked[0] for seen, asked in pairs),
        shape=sum(seen[1] == asked[1] for seen, asked in pairs),
        count=len(found) == len(expected),
    )
