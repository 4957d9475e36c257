"""Small things of sentences that people read."""


def count(number: int, noun: str, plural: str | None = None) -> str:
    """The number with its noun: "1 image", "2 images".

    Args:
        plural: By default the noun with an s.
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
