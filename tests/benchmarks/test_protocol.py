"""What all evaluations promise, on one without a model."""

import ast
import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.protocol import (
    Evaluation,
    add_choice_argument,
    add_run_arguments,
    run,
    transposed,
    wide_table,
    write_results,
)
from tests.flags import flags
from utils.arguments import make_parser
from utils.metrics.statistics import Estimate, bootstrap_mean

REPOSITORY = Path(__file__).resolve().parents[2]


def double(bench, indices):
    """Rows of 2 i + offset, and a gray sheet."""
    rows = [{"value": 2.0 * i + bench.offset} for i in indices]
    return rows, [[Image.new("RGB", (4, 3), "gray")] for _ in indices]


def nothing(bench, indices):
    return [{"value": 0.0} for _ in indices], []


def parser():
    result = make_parser("Doubles.")
    add_choice_argument(result, ("double", "nothing"))
    add_run_arguments(result, batch_size=2)
    result.add_argument("--offset", type=float, default=0.0)
    result.add_argument("--num_clips", type=int, default=5)
    result.add_argument("--weights")
    result.add_argument("--name")
    return result


def summarize(results, args):
    return {task: {"value": bootstrap_mean(results.values(task, "value"))} for task in results.rows}


TASKS = {"double": double, "nothing": nothing}
EVALUATION = Evaluation(
    name="eval_double",
    parser=parser,
    tasks=lambda args: TASKS,
    chosen=lambda args: args.tasks or TASKS,
    bench=lambda args: args,
    check=lambda args: None,
    files=lambda args: {"weights_hash": [Path(args.weights)] if args.weights else []},
    count=lambda settings, task: settings["num_clips"],
    summarize=summarize,
)
BY_METHOD = replace(EVALUATION, decides={"double": ("offset",), "nothing": ()}, shared=("num_clips",))


@pytest.fixture
def command(tmp_path):
    return lambda *more: flags(*more, output_dir=tmp_path / "out")


def test_an_evaluation_writes_a_table_a_json_and_sheets(command, read, capsys):
    folder = run(EVALUATION, command("--offset", 1))
    found = read(folder)
    assert found["double"]["value"]["mean"] == 5 and found["nothing"]["value"] == {"mean": 0, "low": 0, "high": 0}
    table = (folder / "results.md").read_text()
    assert table in capsys.readouterr().out
    assert "| double | value | 5.0000 |" in table and table.count("| 5 |\n") == 2
    assert Image.open(folder / "results.png").height == 16 + 3  # a title and the one sheet that there is


def test_the_json_says_how_the_results_came_about(command):
    run(EVALUATION, command("--tasks", "double"))
    folder = run(EVALUATION, command("--tasks", "nothing"))
    content = json.loads((folder / "results.json").read_text())
    assert content["evaluation"] == "eval_double" and content["counts"] == {"double": 5, "nothing": 5}
    assert [made["command"].split("--tasks ")[1] for made in content["runs"]] == ["double", "nothing"]
    assert content["runs"][0]["command"].startswith("python -m benchmarks.eval_double --output_dir")
    assert {"processor", "threads", "torch"} <= content["runs"][0]["machine"].keys() and content["runs"][0]["date"]
    assert content["settings"]["num_clips"] == 5 and "tasks" not in content["settings"]


def test_a_run_that_was_stopped_goes_on(command, read, stop_once):
    asked = stop_once(TASKS, "double")
    with pytest.raises(KeyboardInterrupt):
        run(EVALUATION, command())
    assert read(run(EVALUATION, command()))["double"]["value"]["mean"] == 4
    assert asked == [[0, 1], [2, 3], [2, 3], [4]]
    run(EVALUATION, command())
    assert len(asked) == 4  # nothing is computed again


def test_tasks_that_are_not_complete_are_left_out(command, read):
    folder = run(EVALUATION, command())
    (folder / "partial/nothing/000002.json").unlink()
    assert list(read(run(EVALUATION, command("--tasks", "double")))) == ["double"]


def test_other_settings_or_weights_are_refused_without_overwrite(command, tmp_path):
    weights = tmp_path / "weights"
    weights.write_text("one")
    run(EVALUATION, command("--weights", weights))
    with pytest.raises(FileExistsError, match=r"holds results with num_clips 5, not 4: choose another --output_dir or"):
        run(EVALUATION, command("--weights", weights, "--num_clips", 4))
    weights.write_text("two")
    with pytest.raises(FileExistsError, match="weights_hash"):
        run(EVALUATION, command("--weights", weights))
    folder = run(EVALUATION, command("--weights", weights, "--overwrite"))
    assert len((folder / "runs.jsonl").read_text().splitlines()) == 1


def test_words_of_code_are_no_settings(command, tmp_path):
    code = tmp_path / "rule.py"
    code.write_text('def rule():\n    """Four."""\n    return 4\n')
    run(EVALUATION, command("--weights", code))
    code.write_text('def rule():\n    """Four in other words."""\n    return 4  # again\n')
    run(EVALUATION, command("--weights", code))
    code.write_text('def rule():\n    """Four."""\n    return 5\n')
    with pytest.raises(FileExistsError, match="weights_hash"):
        run(EVALUATION, command("--weights", code))


def test_an_older_folder_counts_as_measured_with_the_defaults_of_flags_that_it_lacks(command):
    folder = run(EVALUATION, command())
    path = folder / "settings.json"
    held = json.loads(path.read_text())
    del held["offset"]
    path.write_text(json.dumps(held))
    run(EVALUATION, command())
    with pytest.raises(FileExistsError, match=r"offset 0\.0, not 1\.0"):
        run(EVALUATION, command("--offset", 1))
    path.write_text(json.dumps(held | {"removed_flag": 3}))
    with pytest.raises(FileExistsError, match="removed_flag 3, not None"):
        run(EVALUATION, command())


@pytest.mark.parametrize("evaluation", [EVALUATION, BY_METHOD], ids=["tasks", "methods"])
def test_a_folder_of_something_else_is_left_alone(command, tmp_path, evaluation):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="has content"):
        run(evaluation, command())
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["notes.txt"]


def test_methods_have_settings_and_folders_of_their_own(command, read):
    run(BY_METHOD, command("--tasks", "nothing", "--offset", 7))
    run(BY_METHOD, command("--tasks", "double"))
    folder = run(BY_METHOD, command("--tasks", "double", "--name", "double_far", "--offset", 9))
    found = read(folder)
    assert {name: row["value"]["mean"] for name, row in found.items()} == {"double": 4, "double_far": 13, "nothing": 0}
    run(BY_METHOD, command("--tasks", "nothing", "--offset", 8))
    with pytest.raises(FileExistsError, match=r"offset 0\.0, not 1\.0"):
        run(BY_METHOD, command("--tasks", "double", "--offset", 1))
    with pytest.raises(FileExistsError, match=r"was measured with num_clips 5, not 4"):
        run(BY_METHOD, command("--tasks", "nothing", "--num_clips", 4))


def test_a_difference_has_as_many_samples_as_the_smaller_of_its_tasks(command):
    difference = {"value": Estimate(0, 0, 0)}
    evaluation = replace(EVALUATION, summarize=lambda results, args: {"double - nothing": difference})
    evaluation = replace(evaluation, count=lambda settings, task: 3 if task == "nothing" else 5)
    folder = run(evaluation, command())
    assert json.loads((folder / "results.json").read_text())["counts"] == {"double - nothing": 3}


def test_wide_tables_have_a_column_for_each_figure():
    estimates = {"a": {"x": Estimate(1, 0, 2)}, "b": {"x": Estimate(3, 3, 3), "y": Estimate(4, 4, 4)}}
    assert wide_table(estimates, "task") == [
        "| task | x | y |",
        "|---|---|---|",
        "| a | 1.000 (0.000 to 2.000) |  |",
        "| b | 3.000 (3.000 to 3.000) | 4.000 (4.000 to 4.000) |",
    ]
    assert list(transposed(estimates)) == ["x", "y"] and transposed(transposed(estimates)) == estimates


def test_figures_may_be_estimates_numbers_or_medians(tmp_path, read):
    figures = {"a": Estimate(1.0, 0.0, 2.0), "b": 3, "c": {"median": 1.0, "low": 0.5, "high": 2.0}}
    write_results(tmp_path / "results.json", "eval_double", [], {}, {"row": figures})
    assert read(tmp_path)["row"] == figures | {"a": {"mean": 1, "low": 0, "high": 2}}


def test_no_script_of_the_benchmarks_imports_another():
    modules = {f"benchmarks.{path.stem}": path.read_text() for path in (REPOSITORY / "benchmarks").glob("*.py")}
    scripts = {name for name, text in modules.items() if 'if __name__ == "__main__"' in text}
    for name, text in modules.items():
        imports = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
        found = {f"{node.module}.{alias.name}" for node in imports for alias in node.names} | {
            node.module for node in imports
        }
        assert not found & scripts, name
