"""What the joint attention costs: time of each form as a ratio to the base UNet on the same rows, and memory.

python benchmarks/bench_patch.py --model sd15 --latent_size 32 --output outputs/bench_patch.json
python benchmarks/bench_patch.py --model weights/tiny_sd --output outputs/bench_patch_tiny.json

All forms run in turns in one process; the table has the median of the ratios and their quartiles. On a machine that does
other work take OMP_NUM_THREADS=1 and read the ratio of processor time. docs/performance.md explains the forms.
"""

import argparse
import json
import platform
from pathlib import Path

import torch

from benchmarks.patch_forms import (
    NAMES,
    Setting,
    inference_forms,
    make_base,
    parameter_counts,
    sampling_forms,
    training_forms,
)
from benchmarks.timing import Form, compare, count_flops, peak_memory, time_in_turns
from utils.arguments import parse_args
from utils.files import replacing
from utils.training_arguments import positive_int

PARTS = ("inference", "sampling", "training")
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
COLUMNS = "{:34} {:>9} {:>7} {:>15} {:>7} {:>15} {:>8} {:>9}"
TITLES = ("", "seconds", "ratio", "quartiles", "by cpu", "quartiles", "counted", "peak MiB")


def main(argv=None) -> None:
    args = parse_args(make_parser(), argv)
    output = Path(args.output)
    if output.exists() and not args.overwrite:
        raise FileExistsError(f"{output} exists: choose another --output, or pass --overwrite.")
    device = torch.device(args.device)
    base = make_base(args.model, args.device, DTYPES[args.dtype])
    setting = Setting(base, args.latent_size or default_size(base), args.rank, args.compile)
    results = {"arguments": vars(args), "machine": describe(device)}
    for part in args.parts:
        results[part] = measure_part(part, setting, args, device)
        print_table(part, results[part])
    with replacing(output) as path:
        path.write_text(json.dumps(results, indent=2))
    print(f"Written: {output.resolve()}")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", default="sd15", help="sd15 or tiny_sd with random weights, or a folder of a pipeline")
    add("--latent_size", type=positive_int, help="by default 32 for sd15, else the model's own")
    add("--device", default="cpu")
    add("--dtype", choices=DTYPES, default="float32")
    add("--rank", type=positive_int, default=64, help="of the LoRAs")
    add("--conditions", type=int, choices=range(1, len(NAMES) + 1), default=1, help="also time so many cached ones")
    add("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    add("--repeats", type=positive_int, default=9, help="rounds of single calls and of training steps")
    add("--sampling_repeats", type=positive_int, default=3, help="rounds of whole sampling runs")
    add("--num_inference_steps", type=positive_int, default=20)
    add("--compile", action="store_true", help="compile all forms of inference and sampling")
    add("--output", required=True, help="JSON file")
    add("--overwrite", action="store_true")
    return parser


def default_size(base) -> int:
    return min(base.config.sample_size, 32)


def describe(device: torch.device) -> dict:
    name = platform.processor() or platform.machine()
    if device.type != "cpu":
        name = torch.get_device_module(device).get_device_name(device)
    return {"device": name, "threads": torch.get_num_threads(), "torch": torch.__version__}


def measure_part(part: str, setting: Setting, args, device: torch.device) -> dict[str, dict]:
    """Rows of the table, by the form's name."""
    nets = {}
    if part == "inference":
        forms, nets = inference_forms(setting, args.conditions)
    elif part == "sampling":
        forms = sampling_forms(setting, args.num_inference_steps)
    else:
        forms = training_forms(setting)
    repeats = args.sampling_repeats if part == "sampling" else args.repeats
    rows = compare(forms, time_in_turns(forms, repeats, device, part))
    if part == "inference" and not args.compile:
        add_flops(rows, forms)
    for form in forms:
        rows[form.name]["peak_bytes"] = peak_memory(form, device)
        if form.name in nets:
            rows[form.name]["parameters"] = parameter_counts(nets[form.name])
    return rows


def add_flops(rows: dict[str, dict], forms: list[Form]) -> None:
    flops = {form.name: count_flops(form) for form in forms}
    for form in forms:
        rows[form.name]["flops"] = flops[form.name]
        rows[form.name]["counted_ratio"] = flops[form.name] / flops[form.reference]


def print_table(part: str, rows: dict[str, dict]) -> None:
    print(f"\n{part}\n" + COLUMNS.format(*TITLES))
    for name, row in rows.items():
        quartiles = ["{:.3f} to {:.3f}".format(*row[f"{clock}_quartiles"]) for clock in ("wall", "cpu")]
        counted = f"{row['counted_ratio']:.3f}" if "counted_ratio" in row else ""
        numbers = (f"{row['wall_seconds']:.4f}", f"{row['wall_ratio']:.3f}", quartiles[0], f"{row['cpu_ratio']:.3f}")
        print(COLUMNS.format(name, *numbers, quartiles[1], counted, f"{row['peak_bytes'] / 2**20:.0f}"))
    for name, row in rows.items():
        if any(row.get("parameters", {}).values()):
            counts = ", ".join(f"{what} {count / 1e6:.2f} M" for what, count in row["parameters"].items())
            print(f"{name}: {counts}")


if __name__ == "__main__":
    main()
