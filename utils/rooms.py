"""Whether this project's packages are found, and not modules of another project that have their names.

The packages above `utils` read this file by its path and call `enter` before their first import, as `utils` may be what
is hidden.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

ROOMS = ("patch", "unimatch", "utils", "models")


def enter() -> None:
    """Check that imports find this project, and make its libraries quiet before the first import of diffusers.

    Raises:
        ImportError: A package of another project hides one of this project.
    """
    check_rooms(Path(__file__).resolve().parents[1])
    import_module("utils")  # it drops notices of libraries, before diffusers comes


def check_rooms(home: Path) -> None:
    """Raises ImportError where an import finds something else than the packages in the folder `home`."""
    for room in ROOMS:
        found = locate(room)
        if found is not None and found not in (home / room, home / room / "__init__.py"):
            sentence = (
                f"{found} hides the package {room} of this project, which has the same name: rename it, or put "
                f'sys.path.insert(0, "{home}") before the first import of this project.'
            )
            if sys.argv[:1] == ["-m"]:  # a command that is only being looked up
                raise SystemExit(sentence)
            raise ImportError(sentence)


def locate(room: str) -> Path | None:
    """The file, or the folder without an `__init__.py`, that an import of this name finds."""
    module = sys.modules.get(room)
    spec = find_spec(room) if module is None else module.__spec__
    if spec is None:
        found = getattr(module, "__file__", None)
    else:
        found = spec.origin or next(iter(spec.submodule_search_locations or ()), None)
    return None if found is None else Path(found).resolve()
