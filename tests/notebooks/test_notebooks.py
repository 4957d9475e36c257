"""The notebooks: they run from top to bottom, and what is stored in them comes from such a run."""

import nbformat
import pytest

from benchmarks.run_notebooks import execute, main, set_parameters
from utils.arguments import REPOSITORY

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
SHORT = {  # in place of what their parameters cell sets
    "quickstart": {"num_inference_steps": 1, "num_pairs": 1},
    "lab_api": {"num_train_steps": 12, "num_inference_steps": 1},
    "train_your_pair": {"num_pairs": 4, "num_train_steps": 1, "num_inference_steps": 1, "num_shown": 1},
    "trajectory": {"num_inference_steps": 1},
}
MOST = 450_000  # bytes of a notebook with its images


def code(path):
    return cells_of(nbformat.read(path, as_version=4))


def cells_of(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def count_images(cells):
    return [sum("image/png" in output.get("data", {}) for output in cell.outputs) for cell in cells]


def name(path):
    return path.stem


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_a_notebook_runs_from_top_to_bottom_in_the_order_of_its_stored_outputs(path):
    notebook = execute(path, SHORT[path.stem])
    assert count_images(cells_of(notebook)) == count_images(code(path))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_the_outputs_of_a_notebook_are_stored_and_small(path):
    cells = code(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    assert path.stat().st_size < MOST


def write(path, *cells):
    nbformat.write(nbformat.v4.new_notebook(cells=list(cells)), path)
    return path


def parameters(source):
    return nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]})


def test_values_replace_those_of_the_cell_of_parameters(tmp_path):
    path = write(tmp_path / "a.ipynb", parameters("n = 1"), nbformat.v4.new_code_cell("n"))
    notebook = nbformat.read(path, as_version=4)
    set_parameters(notebook, path, {"n": 2})
    assert notebook.cells[0].source == "n = 1\nn = 2"
    notebook.cells[0].metadata.tags = []
    with pytest.raises(ValueError, match="a.ipynb has 0 cells tagged parameters"):
        set_parameters(notebook, path, {"n": 2})


def test_the_command_stores_outputs_without_stderr(tmp_path):
    noisy = nbformat.v4.new_code_cell("import sys\nprint('noise', file=sys.stderr)\nprint(6 * 7)")
    path = write(tmp_path / "a.ipynb", noisy)
    assert main([str(path)]) == [path]
    (cell,) = code(path)
    assert [output["text"] for output in cell.outputs] == ["42\n"]
    with pytest.raises(FileNotFoundError, match="no notebook .*b.ipynb: pass files"):
        main([str(tmp_path / "b.ipynb")])
