"""What all evaluations have in common: flags, settings, going on after a stop, tables and `results.json`.

An evaluation is its tasks and its table. A task is a function from what all tasks share and a range of sample numbers
to a row of figures for each sample, and columns of images for a sheet:

    def frozen(bench, indices):
        videos = bench.first_frames(indices)
        return [{"motion": mean_motion(video)} for video in videos], []

    def parser():
        result = make_parser(__doc__)
        protocol.add_clip_arguments(result, 100)
        protocol.add_run_arguments(result, batch_size=5)
        return result

    def summarize(results, args):
        return {"frozen": {"motion": bootstrap_mean(results.values("frozen", "motion"))}}

    def check(args):
        check_unseen(args.first_seed)                     # and whatever else would fail after models are loaded

    TASKS = {"frozen": frozen}
    EVALUATION = protocol.Evaluation("eval_motion", parser, lambda args: TASKS, Bench, check, files, summarize)
    main = partial(protocol.run, EVALUATION)              # writes results.md, results.json, results.png

`run` keeps results in pieces of --batch_size samples: a run that was stopped goes on when it is started again. Results
of other settings or other weights are refused unless --overwrite is given. `record.py` has the shape of `results.json`.
"""

from benchmarks.protocol.arguments import (
    add_choice_argument,
    add_clip_arguments,
    add_judges_argument,
    add_run_arguments,
    add_seed_argument,
    check_count,
    check_file,
    check_judges,
    check_name,
    check_part,
    judge_files,
    weight_files,
)
from benchmarks.protocol.evaluation import (
    Evaluation,
    Results,
    Task,
    each_method,
    each_task,
    means_of,
    read_results,
    run,
    write_sheets,
)
from benchmarks.protocol.folder import SHOWN, Chunk, check_empty, write_text
from benchmarks.protocol.record import describe_machine, make_run, write_results
from benchmarks.protocol.report import Estimates, long_table, method_table, transposed, wide_table

__all__ = [
    "SHOWN",
    "Chunk",
    "Estimates",
    "Evaluation",
    "Results",
    "Task",
    "add_choice_argument",
    "add_clip_arguments",
    "add_judges_argument",
    "add_run_arguments",
    "add_seed_argument",
    "check_count",
    "check_empty",
    "check_file",
    "check_judges",
    "check_name",
    "check_part",
    "describe_machine",
    "each_method",
    "each_task",
    "judge_files",
    "long_table",
    "make_run",
    "means_of",
    "method_table",
    "read_results",
    "run",
    "transposed",
    "weight_files",
    "wide_table",
    "write_results",
    "write_sheets",
    "write_text",
]
