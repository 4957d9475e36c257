"""One page of many results."""

import json

import pytest

from benchmarks.overview import main
from benchmarks.protocol import make_run, write_results
from tests.flags import flags
from utils.metrics.statistics import Estimate


def test_a_page_has_the_runs_and_figures_of_each_evaluation(tmp_path):
    for name, figure in (("eval_one", Estimate(0.5, 0.25, 0.75)), ("bench_two", 3.0)):
        run = make_run(name, ["--output_dir", "outputs/a b"])
        write_results(tmp_path / name / "results.json", name, [run], {}, {"row": {"error": figure}}, {"row": 7})
    page = main(
        flags(results=[tmp_path / "eval_one", tmp_path / "bench_two/results.json"], output_path=tmp_path / "a.md")
    )
    text = page.read_text()
    assert text.index("## eval_one") < text.index("## bench_two")
    assert "`python -m benchmarks.eval_one --output_dir 'outputs/a b'`" in text
    assert "| row | error | 0.5 (0.25 to 0.75) | 7 |" in text and "| row | error | 3 | 7 |" in text


def test_files_of_another_shape_or_none_are_named(tmp_path):
    (tmp_path / "old.json").write_text(json.dumps({"settings": {}, "rows": []}))
    with pytest.raises(ValueError, match="old.json is no results file of this version"):
        main(flags(results=tmp_path / "old.json", output_path=tmp_path / "a.md"))
    with pytest.raises(FileNotFoundError, match="no file .*absent"):
        main(flags(results=tmp_path / "absent", output_path=tmp_path / "a.md"))
