"""Time the optical flow of a pair of images by our UniMatch, and by a checkout of the published code.

python -m benchmarks.bench_unimatch --size 256 384
python -m benchmarks.bench_unimatch --size 256 384 --reference_repo ../unimatch

Both networks get the same images and the same seeded weights, which magnify rounding far more than trained ones would.
Their runs take turns, so that a busy machine slows both; medians are printed. The published code is imported from
PATH/unimatch; its `forward` takes the settings as keyword arguments.
"""

import argparse
import importlib
import itertools
import math
import statistics
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from benchmarks.protocol import make_run, write_results
from benchmarks.seeded_unimatch import make_model
from unimatch import CONFIGURATIONS, UniMatch
from utils.arguments import make_parser, parse_args, positive_int, run_script
from utils.commands.argument_groups import add_device_argument
from utils.pretrained import DTYPES, choose_device

REFERENCE = "reference_unimatch"  # the name that the published package gets beside ours


def main(argv: list[str] | None = None) -> None:
    args = parse_args(parser(), argv)
    check_size(args)
    reference = reference_class(args.reference_repo) if args.reference_repo else None
    if args.threads:
        torch.set_num_threads(args.threads)
    results = {}
    for name, ways in itertools.product(args.configurations, (1, 2)):
        row = bench(name, ways, reference, args)
        results[f"{name}, {'both ways' if ways == 2 else 'one way'}"] = row
        print(describe(name, ways, row), flush=True)
    if args.output_path:
        command = make_run("bench_unimatch", argv, args.device)
        write_results(Path(args.output_path), "bench_unimatch", [command], vars(args), results)


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    add = result.add_argument
    add("--reference_repo", help="checkout of the published code, to time as well (default: none)")
    add(
        "--configurations",
        nargs="+",
        choices=CONFIGURATIONS,
        default=list(CONFIGURATIONS),
        help="configurations to time",
    )
    add(
        "--size",
        type=positive_int,
        nargs=2,
        default=(256, 384),
        metavar=("HEIGHT", "WIDTH"),
        help="size of the images",
    )
    add("--repeats", type=positive_int, default=5, help="runs of each, after one that does not count")
    add_device_argument(result)
    add(
        "--dtype",
        choices=DTYPES,
        default="float32",
        help="type of our weights; the published code runs in float32",
    )
    add("--threads", type=positive_int, help="threads of PyTorch on the CPU (default: PyTorch's own)")
    add("--output_path", help="JSON file of the results (default: none)")
    return result


def check_size(args: argparse.Namespace) -> None:
    """Raises ValueError for a size that one of the configurations does not take, before the others are timed."""
    args.device = str(choose_device(args.device))
    factor = math.lcm(*(CONFIGURATIONS[name].padding_factor for name in args.configurations))
    if any(side % factor for side in args.size):
        raise ValueError(f"--size {args.size[0]} {args.size[1]}: both have to be multiples of {factor}.")


def reference_class(repository: str) -> type[nn.Module]:
    """The published network; its package is called like ours and is imported under another name.

    Raises:
        FileNotFoundError: It is not there.
    """
    package = Path(repository).resolve() / "unimatch"
    if not (package / "unimatch.py").is_file():
        raise FileNotFoundError(f"There is no {package / 'unimatch.py'}; --reference_repo is a checkout of UniMatch.")
    module = types.ModuleType(REFERENCE)
    module.__path__ = [str(package)]
    sys.modules[REFERENCE] = module
    return importlib.import_module(f"{REFERENCE}.unimatch").UniMatch


def bench(name: str, ways: int, reference: type[nn.Module] | None, args: argparse.Namespace) -> dict:
    """Median seconds of a configuration, for the flow one way or both ways, and how far the two networks differ."""
    run = {"ours": prepare(UniMatch, name, ways, args, DTYPES[args.dtype])}
    if reference is not None:
        run["reference"] = prepare(reference, name, ways, args, torch.float32)
    flows = {who: one() for who, one in run.items()}
    times = {who: [] for who in run}
    for _ in range(args.repeats):
        for who, one in run.items():
            times[who].append(timed(one))
    row = {f"{who}_s": statistics.median(t) for who, t in times.items()}
    if reference is not None:
        difference = (flows["ours"] - flows["reference"]).norm(dim=1)
        row |= {"mean_difference_px": difference.mean().item(), "worst_difference_px": difference.max().item()}
    return row


@torch.inference_mode()
def prepare(network: type[nn.Module], name: str, ways: int, args: argparse.Namespace, dtype: torch.dtype) -> Callable:
    """A call without arguments that gives the flow; weights and images are the same for every network."""
    configuration = CONFIGURATIONS[name]
    built = {key: getattr(configuration, key) for key in ("num_scales", "upsample_factor", "reg_refine")}
    shared = {"feature_channels": 128, "num_head": 1, "ffn_dim_expansion": 4, "num_transformer_layers": 6}
    model = network(**built, **shared)
    model.load_state_dict(make_model(name).state_dict())
    model = model.eval().to(args.device, dtype)
    lists = {key: list(value) for key, value in vars(configuration).items() if key.endswith("_list")}
    settings = {"attn_type": "swin", "num_reg_refine": configuration.num_reg_refine, "task": "flow", **lists}
    images = [image.to(args.device) for image in make_images(*args.size)]
    return torch.inference_mode()(
        lambda: model(*images, pred_bidir_flow=ways == 2, **settings)["flow_preds"][-1].float()
    )


def make_images(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two images (1, 3, height, width) in [0, 255]: soft noise, in the second 8 pixels further to the right."""
    coarse = torch.rand(1, 3, height // 8, width // 8, generator=torch.Generator().manual_seed(0)) * 255
    image = functional.interpolate(coarse, (height, width + 8), mode="bicubic").clamp(0, 255)
    return image[..., 8:], image[..., :-8]


def timed(run: Callable) -> float:
    """Seconds of a run; reading a number waits for the device."""
    start = time.perf_counter()
    run().sum().item()
    return time.perf_counter() - start


def describe(name: str, ways: int, row: dict) -> str:
    text = f"{name:18} {'both ways' if ways == 2 else 'one way':9} {row['ours_s']:8.3f} s"
    if "reference_s" not in row:
        return text
    return (
        f"{text}, published {row['reference_s']:8.3f} s ({row['reference_s'] / row['ours_s']:.2f} times); "
        f"difference {row['mean_difference_px']:.1e} px, at most {row['worst_difference_px']:.1e}"
    )


if __name__ == "__main__":
    run_script(main)
