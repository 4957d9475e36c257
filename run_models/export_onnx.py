"""Writes the networks of a Stable Diffusion or Stable Video Diffusion folder as ONNX, in float32, and checks them.

python run_models/export_onnx.py --model_dir weights/tiny_sd --output_dir outputs/onnx/tiny_sd
python run_models/export_onnx.py --random_size sd15 --part unet --output_dir outputs/onnx/sd15

Each part becomes {output_dir}/{part}/model.onnx, with its weights in model.onnx.data where they exceed 2 GB, and
run.json.
"""

import argparse
import resource
import sys
from collections.abc import Callable
from pathlib import Path

from models.onnx_networks import PARTS, RANDOM_SIZES, folder_networks, random_networks
from models.onnx_parts import Part, check_packages, draw_examples, gather_weights, largest_error, write_onnx
from utils.arguments import make_parser, parse_args, positive_float, run_script
from utils.commands.results import RECORD, Run, check_output_dir, foreign_files
from utils.files import replacing

OPSETS = range(14, 21)


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    add = result.add_argument
    source = result.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--model_dir", help="Stable Diffusion or Stable Video Diffusion folder (default: --random_size)"
    )
    source.add_argument(
        "--random_size",
        choices=RANDOM_SIZES,
        help="random weights of that size, to try the export (default: --model_dir)",
    )
    parts = PARTS["UNetSpatioTemporalConditionModel"]
    add("--part", nargs="+", choices=parts, default=["unet", "decoder"], help="networks to export")
    add("--opset", type=int, choices=OPSETS, default=17, help="version of the ONNX operator set")
    add(
        "--check",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="run the parts in onnxruntime and compare them with PyTorch",
    )
    add("--tolerance", type=positive_float, default=1e-3, help="largest accepted error of a part against PyTorch")
    add("--output_dir", required=True, help="folder that gets a folder for each part, with its run.json")
    add("--overwrite", action="store_true", help="replace parts that --output_dir has")
    return result


def main(argv=None) -> Path:
    """Runs the script and returns the folder of its files."""
    args = parse_args(parser(), argv)
    folder = Path(args.output_dir)
    networks = random_networks(args.random_size) if args.random_size else folder_networks(Path(args.model_dir))
    check_arguments(args, networks)
    for name in dict.fromkeys(args.part):
        run = Run.start(argv, vars(args), [args.model_dir])
        error = export(args, networks, name, run)
        found = "not checked" if error is None else f"largest error {error:.1e}"
        print(f"{name}: {found}, {run.seconds:.0f} s, peak memory so far {peak_memory():.1f} GiB")
    return folder


def check_arguments(args, networks: dict[str, Callable]) -> None:
    """One sentence about what would fail after a long time."""
    if unknown := [name for name in args.part if name not in networks]:
        raise ValueError(f"--part {unknown[0]}: this model has none to export; take {', '.join(networks)}.")
    check_packages("onnx", *(["onnxruntime"] if args.check else []))
    check_output_dir(args.output_dir, True, [args.model_dir])
    for folder in (Path(args.output_dir) / name for name in args.part):
        if folder.exists() and not args.overwrite:
            raise FileExistsError(f"{folder} exists: choose another --output_dir or pass --overwrite.")
        if foreign := foreign_files(folder):
            raise FileExistsError(f"{foreign[0]} is of no export and would be lost: choose another --output_dir.")


def export(args, networks: dict[str, Callable[[], Part]], name: str, run: Run) -> float | None:
    """Write one part and its record; returns the largest error, None where it is not checked."""
    with replacing(Path(args.output_dir) / name) as folder:
        folder.mkdir()
        path = folder / "model.onnx"
        examples = trace(networks[name](), path, args)
        gather_weights(path)
        error = largest_error(path, examples) if args.check else None
        if error is not None and not error <= args.tolerance:
            wrong = f"{name} differs by {error:.1e} from PyTorch, more than --tolerance {args.tolerance:g}"
            raise ValueError(f"{wrong}: raise it to accept that.")
        run.write(folder / RECORD, sorted(folder.iterdir()), part=name, largest_error=error)
        return error


def trace(part: Part, path: Path, args) -> list:
    """Write the part and compute the examples; PyTorch's weights are released when it returns."""
    examples = draw_examples(part) if args.check else []
    write_onnx(part, path, args.opset)
    return examples


def peak_memory() -> float:
    """Largest resident set of this process, GiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


if __name__ == "__main__":
    run_script(main)
