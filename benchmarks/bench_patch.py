"""Measure what the joint attention costs: time of each form as a ratio to the base UNet on the same rows, and memory.

python -m benchmarks.bench_patch --output outputs/bench_patch.json
python -m benchmarks.bench_patch --models sd15 --parts training --output outputs/bench_patch.json

The forms of a part run in turns in one process; the table has the median of their ratios and its quartiles. A part that
--output holds is printed and not measured again, so that a long run may be split, or go on after a stop. On a machine
that does other work set OMP_NUM_THREADS=1 and read the ratio of processor time. docs/performance.md explains the forms.
"""

import argparse
import itertools
import json
from pathlib import Path

import torch

from benchmarks.patch_forms import (
    NAMES,
    Setting,
    condition_forms,
    default_rank,
    inference_forms,
    make_base,
    parameter_counts,
    sampling_forms,
    training_forms,
)
from benchmarks.protocol import describe_machine, make_run, write_results
from benchmarks.timing import CLOCKS, Form, compare, time_in_turns, whole_runs
from utils.arguments import make_parser, parse_args, positive_int, run_script
from utils.commands.argument_groups import add_device_argument
from utils.pretrained import DTYPES, choose_device

PARTS = ("inference", "conditions", "sampling", "training")
COMMON_SETTINGS = ("device", "dtype", "latent_size", "compile")  # flags that decide the figures of all parts
PART_SETTINGS = {  # and of one
    "conditions": ("conditions", "repeats"),
    "sampling": ("num_inference_steps",),
    "training": ("training_repeats",),
}
COLUMNS = "{:32} {:>9} {:>7} {:>15} {:>7} {:>15} {:>8} {:>9} {:>9} {:>8} {:>8}"
TITLES = ("seconds", "ratio", "quartiles", "by cpu", "quartiles", "counted", "peak MiB")
COUNTS = ("trained", "stored", "kept")


def main(argv=None) -> None:
    args = parse_args(parser(), argv)
    output = Path(args.output)
    results = read_output(output, args.overwrite)
    args.device = str(choose_device(args.device))
    parts = list(itertools.product(args.models, args.parts))
    for model, part in parts:
        check_same(results["settings"], model, part, args)
    if args.compile:
        torch._dynamo.config.recompile_limit = 64  # PyTorch counts all networks of a class together
    results["runs"].append(make_run("bench_patch", argv, args.device))
    for model, part in parts:
        name = f"{model}, {part}"
        if name not in results["settings"]:
            rows, references = measure_part(model, part, args)
            results["settings"][name] = settings(model, part, args) | {"references": references}
            results["results"] |= {f"{name}: {form}": row for form, row in rows.items()}
            write_results(output, "bench_patch", results["runs"], results["settings"], results["results"])
        print_part(name, results["results"])
    print(f"Written: {output.resolve()}")


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    add = result.add_argument
    add(
        "--models",
        nargs="+",
        default=["tiny_sd", "sd15"],
        help="sd15, tiny_sd (random weights), folders of pipelines",
    )
    add("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="parts to measure (default: all)")
    add("--latent_size", type=positive_int, help="side of the latents (default: the model's own, at most 32)")
    add_device_argument(result)
    add("--dtype", choices=DTYPES, default="float32", help="number format of the models")
    add("--rank", type=positive_int, help="rank of the LoRAs (default: 64, for tiny_sd 16)")
    add(
        "--conditions",
        type=int,
        choices=range(1, len(NAMES) + 1),
        default=8,
        help="conditions of the part conditions",
    )
    add("--repeats", type=positive_int, default=5, help="rounds of single calls")
    add("--training_repeats", type=positive_int, default=3, help="rounds of training steps")
    add("--num_inference_steps", type=positive_int, default=10, help="steps of a whole run")
    add("--compile", action="store_true", help="compile all forms but those of training")
    add("--output", required=True, help="JSON file; parts that it lacks are measured and added")
    add("--overwrite", action="store_true", help="start a new file")
    return result


def read_output(path: Path, overwrite: bool) -> dict:
    """What a file of this benchmark holds, in the shape of `results.json`; empty if there is none."""
    if overwrite or not path.exists():
        return {"runs": [], "settings": {}, "results": {}}
    content = json.loads(path.read_text())
    if content.get("evaluation") != "bench_patch":
        raise ValueError(f"{path} is no results file of this version: choose another --output, or pass --overwrite.")
    return content


def settings(model: str, part: str, args) -> dict:
    """What the figures of a part depend on."""
    machine = {key: describe_machine(args.device)[key] for key in ("processor", "threads", "torch")}
    asked = {key: getattr(args, key) for key in (*COMMON_SETTINGS, *PART_SETTINGS.get(part, ("repeats",)))}
    return machine | asked | {"rank": args.rank or default_rank(model)}


def check_same(held: dict[str, dict], model: str, part: str, args) -> None:
    """Raises ValueError where a part was measured with other settings."""
    before, now = held.get(f"{model}, {part}"), settings(model, part, args)
    different = [] if before is None else [key for key in now if now[key] != before.get(key)]
    if different:
        key = different[0]
        raise ValueError(
            f"{args.output} holds {part} of {model} with {key}={before.get(key)}, not {now[key]}: choose another "
            "--output, or pass --overwrite to start anew."
        )


def measure_part(model: str, part: str, args) -> tuple[dict[str, dict], dict[str, str]]:
    """Figures of each form of a part, and the form that each is compared with."""
    base = make_base(model, args.device, DTYPES[args.dtype])
    latent_size = args.latent_size or min(base.config.sample_size, 32)
    setting = Setting(base, latent_size, args.rank or default_rank(model), args.compile)
    forms, repeats = make_forms(part, setting, args)
    counting = part == "training" or not args.compile
    samples = time_in_turns(forms, repeats, torch.device(args.device), f"{model}, {part}", counting)
    rows = compare(forms, samples)
    for form in forms:
        rows[form.name] |= {f"{what}_parameters": count for what, count in parameter_counts(form.net).items()}
    references = {form.name: form.reference for form in forms}
    if part == "sampling":
        whole = whole_runs(forms, samples)
        return rows | whole, references | {name: references[name.removesuffix(", whole run")] for name in whole}
    return rows, references


def make_forms(part: str, setting: Setting, args) -> tuple[list[Form], int]:
    """The forms of a part and how many rounds they run."""
    if part == "inference":
        return inference_forms(setting), args.repeats
    if part == "conditions":
        return condition_forms(setting, args.conditions), args.repeats
    if part == "sampling":
        return sampling_forms(setting), args.num_inference_steps
    return training_forms(setting), args.training_repeats


def print_part(part: str, results: dict[str, dict]) -> None:
    print("\n" + COLUMNS.format(part, *TITLES, *(f"{what} M" for what in COUNTS)))
    for name, row in results.items():
        if not name.startswith(f"{part}: "):
            continue
        times = [text for clock in CLOCKS for text in describe_ratio(row[f"{clock}_ratio"])]
        counted = f"{row['counted_ratio']:.3f}" if "counted_ratio" in row else ""
        counts = [f"{row[key] / 1e6:.2f}" if (key := f"{what}_parameters") in row else "" for what in COUNTS]
        form = name.removeprefix(f"{part}: ")
        print(COLUMNS.format(form, f"{row['wall_seconds']:.4f}", *times, counted, mebibytes(row), *counts))


def describe_ratio(ratio: float | dict) -> tuple[str, str]:
    """A ratio, and its quartiles where it has some."""
    if isinstance(ratio, float):
        return f"{ratio:.3f}", ""
    return f"{ratio['median']:.3f}", f"{ratio['low']:.3f} to {ratio['high']:.3f}"


def mebibytes(row: dict) -> str:
    return f"{row['peak_bytes'] / 2**20:.0f}"


if __name__ == "__main__":
    run_script(main)
