"""An evaluation: tasks that measure samples, and the figures of what they measured."""

import argparse
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.protocol.arguments import NO_SETTINGS
from benchmarks.protocol.folder import Chunk, check_empty, digest, open_folder, read_rows, run_in_chunks, write_text
from benchmarks.protocol.record import make_run, note_run, read_runs, write_results
from benchmarks.protocol.report import Estimates, long_table, stack_sheets
from utils.arguments import parse_args
from utils.metrics.statistics import Estimate, bootstrap_mean
from utils.pretrained import choose_device

Arguments = argparse.Namespace
Task = Callable[[object, range], Chunk]


def each_method(methods: Mapping[str, Callable], measure: Callable) -> dict[str, Task]:
    """A task for each method, `measure(bench, indices, method)`."""
    return {name: partial(measure, method=method) for name, method in methods.items()}


@dataclass(frozen=True)
class Results:
    """What an evaluation has measured.

    Attributes:
        settings: What decides it; by task where each has settings of its own.
        rows: Rows of each complete task, one for each sample, in the order of the table.
        sheets: Where the sheet of each of these tasks is, if it has one.
    """

    settings: dict
    rows: dict[str, list[dict]]
    sheets: dict[str, Path]

    def values(self, task: str, name: str) -> np.ndarray:
        """One figure of each row of a task."""
        return np.array([row[name] for row in self.rows[task]])


def each_task(figures: Callable[[Results, str], dict[str, Estimate]]) -> Callable[[Results, Arguments], Estimates]:
    """`summarize` of an evaluation that has the same figures of each task, `figures(results, task)`."""
    return lambda results, args: {task: figures(results, task) for task in results.rows}


def means_of(names: Iterable[str]) -> Callable[[Results, Arguments], Estimates]:
    """`summarize` of an evaluation whose figures are means over the samples of each task."""
    return each_task(lambda results, task: {name: bootstrap_mean(results.values(task, name)) for name in names})


def write_sheets(folder: Path, results: Results, estimates: Estimates) -> None:
    """Writes the sheets of all tasks below one another as results.png."""
    stack_sheets(folder / "results.png", results.sheets)


@dataclass(frozen=True)
class Evaluation:
    """What `run` needs to know.

    Attributes:
        name: Of the script.
        parser: Makes its parser, from the groups of `arguments.py` and flags of its own.
        tasks: From arguments to all tasks by name, in the order of the table: functions (bench, indices) -> Chunk.
        bench: From arguments to what tasks share, such as models that are loaded when a task first needs them.
        check: Raises one sentence about whatever would fail after models are loaded.
        files: From arguments to files that decide the results, by the name of the setting that holds their hash.
        summarize: From results and arguments to estimates by row and figure.
        count: From settings and the name of a task to its number of samples (default: the setting num_clips).
        chosen: From arguments to the names of the tasks to measure now (default: those of --tasks, or all).
        no_settings: Flags of its own that decide no result.
        decides: By task the names of the settings that it depends on. Each task then has a folder of its own, which
            takes its name or that of --name, so that methods are measured one by one (default: all tasks share folder
            and settings).
        shared: With `decides`, settings that all of them have in common.
        table: From estimates and numbers of samples to the lines of the table.
        parse: Parses the command line, as `parse_args` does.
        plot: Writes images, from folder, results and estimates (default: results.png, the sheets of all tasks).
    """

    name: str
    parser: Callable[[], argparse.ArgumentParser]
    tasks: Callable[[Arguments], dict[str, Task]]
    bench: Callable[[Arguments], object]
    check: Callable[[Arguments], None]
    files: Callable[[Arguments], dict[str, Iterable[Path]]]
    summarize: Callable[[Results, Arguments], Estimates]
    count: Callable[[dict, str], int] = lambda settings, task: settings["num_clips"]
    chosen: Callable[[Arguments], Iterable[str] | None] = lambda args: getattr(args, "tasks", None)
    no_settings: tuple[str, ...] = ()
    decides: dict[str, tuple[str, ...]] | None = None
    shared: tuple[str, ...] = ()
    table: Callable[[Estimates, dict[str, int]], list[str]] = long_table
    parse: Callable[[argparse.ArgumentParser, list[str] | None], Arguments] = parse_args
    plot: Callable[[Path, Results, Estimates], None] = write_sheets


def run(evaluation: Evaluation, argv: list[str] | None = None) -> Path:
    """Runs the command of an evaluation and returns the folder of its results.

    Raises:
        ValueError, OSError: The arguments do not fit, or --output_dir holds results of other settings.
    """
    args = evaluation.parse(evaluation.parser(), argv)
    args.device = str(choose_device(args.device))
    evaluation.check(args)
    folder, tasks = Path(args.output_dir), evaluation.tasks(args)
    places = find_places(evaluation, args, evaluation.chosen(args) or tasks)
    plain = evaluation.parser()
    defaults = {name: plain.get_default(name) for name in vars(args)}
    for place, settings in places.values():
        open_folder(place, settings, args.overwrite, defaults)
    note_run(folder, make_run(evaluation.name, argv, args.device))
    bench = evaluation.bench(args)
    for task, (place, settings) in places.items():
        count = evaluation.count(settings, task)
        run_in_chunks(place, task, count, args.batch_size, partial(tasks[task], bench))
    report(evaluation, args)
    return folder


def all_settings(evaluation: Evaluation, args: Arguments) -> dict:
    """Arguments that decide the results, and hashes of the files that do."""
    left_out = (*NO_SETTINGS, *evaluation.no_settings)
    settings = {name: value for name, value in vars(args).items() if name not in left_out}
    return settings | {name: digest(paths) for name, paths in evaluation.files(args).items()}


def find_places(evaluation: Evaluation, args: Arguments, names: Iterable[str]) -> dict[str, tuple[Path, dict]]:
    """Folder and settings of tasks."""
    folder, settings = Path(args.output_dir), all_settings(evaluation, args)
    if evaluation.decides is None:
        return dict.fromkeys(names, (folder, settings))
    check_shared(folder, {name: settings[name] for name in evaluation.shared})
    places = {}
    for name in names:
        kept = (*evaluation.shared, "batch_size", *evaluation.decides[name])
        places[name] = folder / (args.name or name), {"method": name} | {key: settings[key] for key in kept}
    return places


def check_shared(folder: Path, asked: dict) -> None:
    """Raises FileExistsError where a folder holds methods that do not compare with those of the settings asked for."""
    held = sorted(folder.glob("*/settings.json"))
    if not held:
        check_empty(folder)
    for path in held:
        settings = json.loads(path.read_text())
        for name, value in asked.items():
            if settings[name] != value:
                before = f"{path.parent} was measured with {name} {settings[name]!r}"
                raise FileExistsError(f"{before}, not {value!r}: choose another --output_dir.")


def read_results(evaluation: Evaluation, args: Arguments, folder: Path) -> Results:
    """All tasks that are complete in a folder."""
    tasks, rows, sheets = list(evaluation.tasks(args)), {}, {}
    if evaluation.decides is None:
        settings = json.loads((folder / "settings.json").read_text())
        found = {task: (folder, task, settings) for task in tasks}
    else:
        settings = {path.parent.name: json.loads(path.read_text()) for path in sorted(folder.glob("*/settings.json"))}
        names = sorted(settings, key=lambda name: tasks.index(settings[name]["method"]))
        found = {name: (folder / name, settings[name]["method"], settings[name]) for name in names}
    for name, (place, task, held) in found.items():
        if complete := read_rows(place, task, evaluation.count(held, task)):
            rows[name], sheets[name] = complete, place / "partial" / task / "picture.png"
    return Results(settings, rows, sheets)


def report(evaluation: Evaluation, args: Arguments) -> None:
    """Writes results.md, results.json and images, and prints the table."""
    folder = Path(args.output_dir)
    results = read_results(evaluation, args, folder)
    estimates = evaluation.summarize(results, args)
    counts = count_samples(estimates, results)
    table = "\n".join(evaluation.table(estimates, counts))
    write_results(folder / "results.json", evaluation.name, read_runs(folder), results.settings, estimates, counts)
    write_text(folder / "results.md", table + "\n")
    evaluation.plot(folder, results, estimates)
    print(f"{table}\n\n{folder.resolve()}")


def count_samples(estimates: Estimates, results: Results) -> dict[str, int]:
    """Number of samples of each row of a table; a difference "a - b" has as many as the smaller of its two tasks."""
    counts = {}
    for row in estimates:
        known = [len(results.rows[task]) for task in row.split(" - ") if task in results.rows]
        if known:
            counts[row] = min(known)
    return counts
