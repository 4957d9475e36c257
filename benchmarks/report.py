"""Make one page, with figures, of the results of all evaluations.

python -m benchmarks.report
python -m benchmarks.report --add outputs/eval_svd                                       # and keep its results.json
python -m benchmarks.report --results outputs/eval_svd outputs/eval_flow/results.json --output_path outputs/all.md

By default it reads the files of benchmarks/results and writes docs/results.md. Each evaluation has its runs (date,
machine, command), a figure with the intervals, and a table of its rows with the number of samples.
"""

import argparse
import json
import re
from collections import Counter
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path

from benchmarks.protocol import check_file, write_text
from utils.arguments import REPOSITORY, make_parser, parse_args, run_script
from utils.formats.folders import list_files

Figure = float | dict[str, float]
RESULTS = REPOSITORY / "benchmarks" / "results"
ABSOLUTE = re.compile(r"""(?<=["'\s=])/[^"'\s]+""")  # paths in the text of a results.json
PANELS = 6  # figures of an evaluation that are plotted: those that most rows have
HEAD = """# Results

Written by `python -m benchmarks.report` from the files in `benchmarks/results`, each of which an evaluation wrote as
its `results.json`. Intervals are 95%. What the figures mean is in [evaluation](evaluation.md); larger runs are in the
pages that it links."""


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    add = result.add_argument
    several = "results.json of evaluations, or folders of them (default: benchmarks/results)"
    kept = "results of evaluations to keep in benchmarks/results first, under the evaluation's name"
    add("--add", nargs="+", default=[], metavar="PATH", help=f"{kept} (default: none)")
    add("--results", nargs="+", default=[str(RESULTS)], metavar="PATH", help=several)
    add(
        "--output_path", default=str(REPOSITORY / "docs/results.md"), help="Markdown file; one of that name is replaced"
    )
    return result


def main(argv=None) -> Path:
    """Runs the command and returns the page."""
    args = parse_args(parser(), argv)
    page = Path(args.output_path)
    for path in args.add:
        keep(Path(path))
    contents = [read_results(file) for path in args.results for file in find_files(Path(path))]
    sections = [section(content, draw(content, page)) for content in contents]
    write_text(page, "\n\n".join([HEAD, *sections]) + "\n")
    print(f"Written: {page.resolve()}")
    return page


def find_files(path: Path) -> list[Path]:
    """The results in a folder: its results.json, or else all of its .json; or the file itself.

    Raises:
        FileNotFoundError: There is none.
    """
    own = path / "results.json"
    if path.is_dir() and not own.is_file():
        files = list_files(path, {".json"})
        if files:
            return files
    file = own if path.is_dir() else path
    check_file(file, "file", "name the folder of an evaluation, or its results.json")
    return [file]


def keep(path: Path) -> None:
    """Copies a results.json into benchmarks/results, without places of the machine that measured (`place`)."""
    (file,) = find_files(path)
    name = read_results(file)["evaluation"]
    write_text(RESULTS / f"{name}.json", ABSOLUTE.sub(lambda match: place(match[0]), file.read_text()))


def place(path: str) -> str:
    """An absolute path from the root of the repository, of any copy of it; the name alone of a file elsewhere."""
    parts = Path(path).parts[1:]
    tails = (Path(*parts[k:]) for k in range(len(parts)))
    return str(next((tail for tail in tails if (REPOSITORY / tail).exists()), parts[-1]))


def read_results(file: Path) -> dict:
    """The content of a `results.json`.

    Raises:
        ValueError: It has another shape than `benchmarks/protocol/record.py` says.
    """
    content = json.loads(file.read_text())
    if not isinstance(content, dict) or not {"evaluation", "runs", "results", "counts"} <= content.keys():
        raise ValueError(f"{file} is no results file of this version: measure again, in a new --output_dir.")
    return content


def section(content: dict, image: Path) -> str:
    """An evaluation as a title, its runs, its figure and tables."""
    runs = [describe_run(run) for run in content["runs"]]
    name = content["evaluation"]
    shown = f"![{name}]({image.parent.name}/{image.name})"
    return "\n\n".join([f"## {name}", "\n".join(runs), shown, *tables(content["results"], content["counts"])])


def tables(results: Mapping[str, Mapping[str, Figure]], counts: Mapping[str, int]) -> list[str]:
    """A table of the rows that have the same figures, in the order of the rows."""
    found = []
    for names, rows in groupby(results.items(), key=lambda row: tuple(row[1])):
        lines = ["| " + " | ".join(cells) + " |" for cells in (("row", "samples", *names), ["---"] * (2 + len(names)))]
        for row, figures in rows:
            cells = row, str(counts.get(row, "")), *map(describe, figures.values())
            lines.append("| " + " | ".join(cells) + " |")
        found.append("\n".join(lines))
    return found


def describe_run(run: dict) -> str:
    machine = run["machine"]
    cores = f", {machine['cores']} cores" if "cores" in machine else ""
    return f"- {run['date']}, {machine['processor']}{cores}, PyTorch {machine['torch']}: `{run['command']}`"


def describe(figure: Figure) -> str:
    """A number, or a mean or median with its interval."""
    if not isinstance(figure, dict):
        return f"{figure:.4g}"
    return f"{middle(figure):.4g} ({figure['low']:.4g} to {figure['high']:.4g})"


def middle(figure: Figure) -> float:
    if not isinstance(figure, dict):
        return figure
    return figure["mean"] if "mean" in figure else figure["median"]


def draw(content: dict, page: Path) -> Path:
    """Plots the figures over the rows that have them, in a folder beside the page, and returns the file."""
    from matplotlib.figure import Figure as Plot

    panels = by_figure(content["results"])
    height = 0.6 + 0.28 * max(map(len, panels.values()))
    plot = Plot(figsize=(2.6 * len(panels) + 1, height), layout="constrained")
    for axes, (name, rows) in zip(plot.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for place, figure in enumerate(rows.values()):
            axes.plot(middle(figure), place, "o", color="C0", markersize=4)
            if isinstance(figure, dict):
                axes.plot([figure["low"], figure["high"]], [place, place], color="C0", linewidth=1.5)
            axes.axhline(place, color="0.9", linewidth=0.8, zorder=0)
        axes.set_yticks(range(len(rows)), rows, fontsize=7)
        axes.invert_yaxis()
        axes.set_title(name, fontsize=8)
        axes.tick_params(axis="x", labelsize=7)
    file = page.with_suffix("") / f"{content['evaluation']}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    plot.savefig(file, dpi=110)
    return file


def by_figure(results: Mapping[str, Mapping[str, Figure]]) -> dict[str, dict[str, Figure]]:
    """The figures that most rows have, and of each these rows."""
    counts = Counter(name for figures in results.values() for name in figures)
    names = [name for name, _ in counts.most_common(PANELS)]
    return {name: {row: figures[name] for row, figures in results.items() if name in figures} for name in names}


if __name__ == "__main__":
    run_script(main)
