"""What the joint attention costs: time of each form as a ratio to the base UNet on the same rows, and memory.

python -m benchmarks.bench_patch --output outputs/bench_patch.json
python -m benchmarks.bench_patch --models sd15 --parts training --output outputs/bench_patch.json

The forms of a part run in turns in one process; the table has the median of their ratios and its quartiles. A part that
--output holds already is printed and not measured again, so that a long run may be split or go on after an end. On a
machine that does other work take OMP_NUM_THREADS=1 and read the ratio of processor time. docs/performance.md explains
the forms.
"""

import argparse
import json
import platform
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
from benchmarks.timing import CLOCKS, Form, compare, time_in_turns, whole_runs
from utils.arguments import parse_args, positive_int, run_script
from utils.files import replacing

PARTS = ("inference", "conditions", "sampling", "training")
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
OF_ALL_PARTS = ("device", "dtype", "latent_size", "compile")
OF_PART = {
    "conditions": ("conditions", "repeats"),
    "sampling": ("num_inference_steps",),
    "training": ("training_repeats",),
}
COLUMNS = "{:32} {:>9} {:>7} {:>15} {:>7} {:>15} {:>8} {:>9} {:>9} {:>8} {:>8}"
TITLES = ("seconds", "ratio", "quartiles", "by cpu", "quartiles", "counted", "peak MiB")
COUNTS = ("trained", "stored", "kept")


def main(argv=None) -> None:
    args = parse_args(make_parser(), argv)
    output = Path(args.output)
    results = {} if args.overwrite or not output.exists() else json.loads(output.read_text())
    for model in args.models:
        for part in args.parts:
            check_same(results, model, part, args)
    if args.compile:
        torch._dynamo.config.recompile_limit = 64  # PyTorch counts all networks of a class together
    for model in args.models:
        for part in args.parts:
            measured = results.setdefault(model, {})
            if part not in measured:
                measured[part] = {"setting": settings(model, part, args), "rows": measure_part(model, part, args)}
                with replacing(output) as path:
                    path.write_text(json.dumps(results, indent=2))
            print_part(model, part, measured[part]["rows"])
    print(f"Written: {output.resolve()}")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--models", nargs="+", default=["tiny_sd", "sd15"], help="sd15, tiny_sd (random weights), folders of pipelines")
    add("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    add("--latent_size", type=positive_int, help="by default the model's own, at most 32")
    add("--device", default="cpu")
    add("--dtype", choices=DTYPES, default="float32")
    add("--rank", type=positive_int, help="of the LoRAs; by default 64, for tiny_sd 16")
    add("--conditions", type=int, choices=range(1, len(NAMES) + 1), default=8, help="given at once")
    add("--repeats", type=positive_int, default=5, help="rounds of single calls")
    add("--training_repeats", type=positive_int, default=3, help="rounds of training steps")
    add("--num_inference_steps", type=positive_int, default=10, help="rounds of steps that make a whole run")
    add("--compile", action="store_true", help="compile all forms but those of training")
    add("--output", required=True, help="JSON file; what it lacks is measured and added")
    add("--overwrite", action="store_true", help="start a new file")
    return parser


def settings(model: str, part: str, args) -> dict:
    """What the figures of a part depend on."""
    device = torch.device(args.device)
    name = platform.processor() or platform.machine()
    if device.type != "cpu":
        name = torch.get_device_module(device).get_device_name(device)
    machine = {"machine": name, "threads": torch.get_num_threads(), "torch": torch.__version__}
    asked = {key: getattr(args, key) for key in (*OF_ALL_PARTS, *OF_PART.get(part, ("repeats",)))}
    return machine | asked | {"rank": args.rank or default_rank(model)}


def check_same(results: dict, model: str, part: str, args) -> None:
    """Raises where a part was measured with other settings."""
    before, now = results.get(model, {}).get(part, {}).get("setting"), settings(model, part, args)
    different = [] if before is None else [key for key in now if now[key] != before.get(key)]
    if different:
        key = different[0]
        raise ValueError(
            f"{args.output} holds {part} of {model} with {key}={before.get(key)}, not {now[key]}: choose another "
            "--output, or pass --overwrite to start anew."
        )


def measure_part(model: str, part: str, args) -> dict[str, dict]:
    """Rows of the table, by the form's name."""
    base = make_base(model, args.device, DTYPES[args.dtype])
    latent_size = args.latent_size or min(base.config.sample_size, 32)
    setting = Setting(base, latent_size, args.rank or default_rank(model), args.compile)
    forms, repeats = make_forms(part, setting, args)
    counting = part == "training" or not args.compile
    samples = time_in_turns(forms, repeats, torch.device(args.device), f"{model}, {part}", counting)
    rows = compare(forms, samples)
    for form in forms:
        rows[form.name]["parameters"] = parameter_counts(form.net)
    return rows | whole_runs(forms, samples) if part == "sampling" else rows


def make_forms(part: str, setting: Setting, args) -> tuple[list[Form], int]:
    """The forms of a part and how many rounds they run."""
    if part == "inference":
        return inference_forms(setting), args.repeats
    if part == "conditions":
        return condition_forms(setting, args.conditions), args.repeats
    if part == "sampling":
        return sampling_forms(setting), args.num_inference_steps
    return training_forms(setting), args.training_repeats


def print_part(model: str, part: str, rows: dict[str, dict]) -> None:
    print("\n" + COLUMNS.format(f"{model}, {part}", *TITLES, *(f"{what} M" for what in COUNTS)))
    for name, row in rows.items():
        times = [text for clock in CLOCKS for text in (f"{row[f'{clock}_ratio']:.3f}", spread(row, clock))]
        counted = f"{row['counted_ratio']:.3f}" if "counted_ratio" in row else ""
        counts = [f"{row['parameters'][what] / 1e6:.2f}" if "parameters" in row else "" for what in COUNTS]
        print(COLUMNS.format(name, f"{row['wall_seconds']:.4f}", *times, counted, mebibytes(row), *counts))


def spread(row: dict, clock: str) -> str:
    key = f"{clock}_quartiles"
    return "{:.3f} to {:.3f}".format(*row[key]) if key in row else ""


def mebibytes(row: dict) -> str:
    return f"{row['peak_bytes'] / 2**20:.0f}"


if __name__ == "__main__":
    run_script(main)
