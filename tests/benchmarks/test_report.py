"""One page of many results."""

import json

import pytest
from PIL import Image

from benchmarks.protocol import make_run, write_results
from benchmarks.report import PANELS, RESULTS, by_figure, main, read_results, tables
from tests.flags import flags
from utils.arguments import REPOSITORY
from utils.metrics.statistics import Estimate


@pytest.fixture
def results(tmp_path):
    """Folder of two evaluations' results."""
    for name, figure in (("eval_one", Estimate(0.5, 0.25, 0.75)), ("bench_two", 3.0)):
        run = make_run(name, ["--output_dir", "outputs/a b"])
        write_results(tmp_path / name / "results.json", name, [run], {}, {"row": {"error": figure}}, {"row": 7})
    return tmp_path


def test_a_page_has_runs_figures_and_images_of_each_evaluation(results):
    paths = [results / "eval_one", results / "bench_two/results.json"]
    page = main(flags(results=paths, output_path=results / "a.md"))
    text = page.read_text()
    assert text.index("## eval_one") < text.index("## bench_two")
    assert "`python -m benchmarks.eval_one --output_dir 'outputs/a b'`" in text
    assert "| row | 7 | 0.5 (0.25 to 0.75) |" in text and "| row | 7 | 3 |" in text
    assert "![eval_one](a/eval_one.png)" in text
    assert Image.open(results / "a/eval_one.png").width > 100


def test_a_folder_of_results_files_is_read_as_a_whole(results):
    folder = results / "kept"
    folder.mkdir()
    for name in ("eval_one", "bench_two"):
        (folder / f"{name}.json").write_text((results / name / "results.json").read_text())
    text = main(flags(results=folder, output_path=results / "b.md")).read_text()
    assert text.index("## bench_two") < text.index("## eval_one")


def test_results_are_kept_without_the_place_of_the_repository(results, monkeypatch):
    kept = results / "kept"
    kept.mkdir()
    monkeypatch.setattr("benchmarks.report.RESULTS", kept)
    run = make_run("eval_three", ["--model_dir", "/a/copy/weights/tiny_svd", "--runs_dir=/a/place/of/runs"])
    settings = {"model_dir": str(REPOSITORY / "weights/tiny_svd")}
    write_results(results / "three" / "results.json", "eval_three", [run], settings, {"row": {"error": 1.0}})
    main(flags("--add", results / "three", results=kept, output_path=results / "c.md"))
    content = read_results(kept / "eval_three.json")
    assert content["settings"] == {"model_dir": "weights/tiny_svd"}
    assert content["runs"][0]["command"].endswith("--model_dir weights/tiny_svd --runs_dir=runs")


def test_a_table_has_the_rows_of_the_same_figures():
    results = {"truth": {"error": 0.0}, "a": {"error": 1.0, "fvd": 2.0}, "b": {"error": 3.0, "fvd": 4.0}}
    first, second = tables(results, {"truth": 5, "a": 6})
    assert first.splitlines() == ["| row | samples | error |", "| --- | --- | --- |", "| truth | 5 | 0 |"]
    assert second.splitlines()[0] == "| row | samples | error | fvd |"
    assert second.splitlines()[2:] == ["| a | 6 | 1 | 2 |", "| b |  | 3 | 4 |"]


def test_the_figures_of_most_rows_are_plotted_and_each_with_the_rows_that_have_it():
    rows = {"a": {str(i): 1.0 for i in range(PANELS + 2)}, "b": {"7": 2.0}}
    panels = by_figure(rows)
    assert list(panels) == ["7", *(str(i) for i in range(PANELS - 1))]
    assert panels["0"] == {"a": 1.0} and panels["7"] == {"a": 1.0, "b": 2.0}


def test_files_of_another_shape_or_none_are_named(tmp_path):
    (tmp_path / "old.json").write_text(json.dumps({"settings": {}, "rows": []}))
    with pytest.raises(ValueError, match="old.json is no results file of this version"):
        main(flags(results=tmp_path / "old.json", output_path=tmp_path / "a.md"))
    with pytest.raises(FileNotFoundError, match="no file .*absent"):
        main(flags(results=tmp_path / "absent", output_path=tmp_path / "a.md"))


def test_the_page_of_the_repository_is_that_of_its_results(tmp_path):
    text = main(flags(output_path=tmp_path / "results.md")).read_text()
    assert text == (REPOSITORY / "docs/results.md").read_text(), "write it with python -m benchmarks.report"
    for file in RESULTS.glob("*.json"):
        assert read_results(file)["runs"], file
        assert '"/' not in file.read_text() and " /" not in file.read_text(), f"{file} names places of a machine"
