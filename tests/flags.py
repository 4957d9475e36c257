"""Command lines of scripts, from values by name."""


def flags(*more, **values) -> list[str]:
    """ "--name value" for each value, each part of a list or tuple by itself; then further parts as they are."""
    named = [
        part
        for name, value in values.items()
        for part in (f"--{name}", *(value if isinstance(value, list | tuple) else [value]))
    ]
    return [str(part) for part in (*named, *more)]
