"""Run notebooks from top to bottom and keep what they show.

python -m benchmarks.run_notebooks notebooks/quickstart.ipynb notebooks/trajectory.ipynb

Outputs are stored in the notebooks themselves; what libraries write to stderr is left out.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

from utils.arguments import REPOSITORY, make_parser, parse_args, run_script

PARAMETERS = "parameters"  # tag of the cell that sets sizes and numbers of steps


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    result.add_argument("notebooks", nargs="+", metavar="NOTEBOOK", help="files .ipynb")
    return result


def main(argv=None) -> list[Path]:
    """Runs the command and returns the notebooks."""
    import nbformat

    paths = [Path(name) for name in parse_args(parser(), argv).notebooks]
    if missing := [path for path in paths if not path.is_file()]:
        raise FileNotFoundError(f"There is no notebook {missing[0]}: pass files such as notebooks/quickstart.ipynb.")
    for path in paths:
        nbformat.write(without_noise(execute(path)), path)
        print(f"Written: {path}")
    return paths


def execute(path: str | Path, parameters: Mapping[str, object] | None = None):
    """The notebook with the outputs of all its cells, run in a process of its own from the repository's root.

    Args:
        parameters: Values in place of those that the cell tagged "parameters" sets.

    Raises:
        ValueError: The notebook has no such cell.
        nbclient.exceptions.CellExecutionError: A cell raised.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    if parameters:
        set_parameters(notebook, path, parameters)
    client = NotebookClient(notebook, timeout=None, kernel_name="python3")
    return client.execute(cwd=str(REPOSITORY))


def set_parameters(notebook, path: str | Path, parameters: Mapping[str, object]) -> None:
    """Write assignments behind those of the cell tagged "parameters"."""
    cells = [cell for cell in notebook.cells if PARAMETERS in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise ValueError(f"{path} has {len(cells)} cells tagged {PARAMETERS}: tag the one that sets them.")
    cells[0].source += "".join(f"\n{name} = {value!r}" for name, value in parameters.items())


def without_noise(notebook):
    """The notebook without what was written to stderr, and without times and versions of the machine."""
    notebook.metadata.pop("language_info", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


if __name__ == "__main__":
    run_script(main)
