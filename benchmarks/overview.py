"""Make one page of the results of many evaluations.

python -m benchmarks.overview --results outputs/eval_svd outputs/eval_flow/results.json --output_path outputs/all.md

Each has its runs (date, machine, command) and a table of its rows, with the number of samples.
"""

import argparse
import json
from pathlib import Path

from benchmarks.protocol import check_file, write_text
from utils.arguments import make_parser, parse_args, run_script

Figure = float | dict[str, float]


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    add = result.add_argument
    add("--results", nargs="+", required=True, metavar="PATH", help="results.json of evaluations, or their folders")
    add("--output_path", required=True, help="Markdown file; one of that name is replaced")
    return result


def main(argv=None) -> Path:
    """Runs the command and returns the page."""
    args = parse_args(parser(), argv)
    page, contents = Path(args.output_path), [read_results(Path(path)) for path in args.results]
    write_text(page, "\n\n".join(["# Results", *map(section, contents)]) + "\n")
    print(f"Written: {page.resolve()}")
    return page


def read_results(path: Path) -> dict:
    """The content of a `results.json`.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It has another shape than `benchmarks/protocol/record.py` says.
    """
    file = path / "results.json" if path.is_dir() else path
    check_file(file, "file", "name the folder of an evaluation, or its results.json")
    content = json.loads(file.read_text())
    if not isinstance(content, dict) or not {"evaluation", "runs", "results", "counts"} <= content.keys():
        raise ValueError(f"{file} is no results file of this version: measure again, in a new --output_dir.")
    return content


def section(content: dict) -> str:
    """An evaluation as a title, its runs and a table."""
    runs = [describe_run(run) for run in content["runs"]]
    lines = ["| row | figure | value | samples |", "|---|---|---|---|"]
    lines += [
        f"| {row} | {name} | {describe(figure)} | {content['counts'].get(row, '')} |"
        for row, figures in content["results"].items()
        for name, figure in figures.items()
    ]
    return "\n\n".join([f"## {content['evaluation']}", "\n".join(runs), "\n".join(lines)])


def describe_run(run: dict) -> str:
    machine = run["machine"]
    return f"- {run['date']}, {machine['processor']}, PyTorch {machine['torch']}: `{run['command']}`"


def describe(figure: Figure) -> str:
    """A number, or a mean or median with its interval."""
    if not isinstance(figure, dict):
        return f"{figure:.4g}"
    middle = figure["mean"] if "mean" in figure else figure["median"]
    return f"{middle:.4g} ({figure['low']:.4g} to {figure['high']:.4g})"


if __name__ == "__main__":
    run_script(main)
