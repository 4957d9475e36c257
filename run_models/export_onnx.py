"""Writes the networks of a Stable Diffusion or Stable Video Diffusion folder as ONNX, in float32, and checks them.

python run_models/export_onnx.py --model_dir weights/tiny_sd --output_dir outputs/onnx/tiny_sd
python run_models/export_onnx.py --random_size sd15 --part unet --output_dir outputs/onnx/sd15

Each part becomes {output_dir}/{part}/model.onnx, with its weights in model.onnx.data where they exceed 2 GB.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import diffusers
import torch
import transformers

from models.onnx_parts import (
    Part,
    check_packages,
    condition_encoder,
    draw_examples,
    gather_weights,
    image_decoder,
    image_encoder,
    image_unet,
    largest_error,
    video_decoder,
    video_unet,
    write_onnx,
)
from utils.arguments import parse_args, run_script
from utils.files import replacing
from utils.pretrained import loading

# For each UNet class the parts: subfolder of the model, and what makes the part of the network in it.
PARTS: dict[str, dict[str, tuple[str, Callable[[torch.nn.Module], Part]]]] = {
    "UNet2DConditionModel": {"unet": ("unet", image_unet), "decoder": ("vae", image_decoder)},
    "UNetSpatioTemporalConditionModel": {
        "unet": ("unet", video_unet),
        "decoder": ("vae", video_decoder),
        "encoder": ("vae", condition_encoder),
        "image_encoder": ("image_encoder", image_encoder),
    },
}
_VAE = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2}
_BLOCKS = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
# Networks of the published sizes: class and configuration of each subfolder. The rest is the class's default.
RANDOM_SIZES: dict[str, dict[str, tuple[str, dict]]] = {
    "sd15": {
        "unet": ("UNet2DConditionModel", {"cross_attention_dim": 768, "attention_head_dim": 8}),
        "vae": ("AutoencoderKL", _VAE | _BLOCKS),
    },
    "svd": {
        "unet": ("UNetSpatioTemporalConditionModel", {"num_attention_heads": (5, 10, 20, 20)}),
        "vae": ("AutoencoderKLTemporalDecoder", _VAE | {"down_block_types": _BLOCKS["down_block_types"]}),
    },
}


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = result.add_argument
    source = result.add_mutually_exclusive_group(required=True)
    source.add_argument("--model_dir", help="a StableDiffusionPipeline or StableVideoDiffusionPipeline folder")
    source.add_argument("--random_size", choices=RANDOM_SIZES, help="random weights of that size, to try the export")
    add("--output_dir", required=True)
    add("--overwrite", action="store_true", help="replace parts that output_dir has")
    add("--part", nargs="+", choices=PARTS["UNetSpatioTemporalConditionModel"], default=["unet", "decoder"])
    add("--opset", type=int, default=17, help="14 to 20")
    add("--check", action=argparse.BooleanOptionalAction, default=True, help="run it with onnxruntime, too")
    add("--tolerance", type=float, default=1e-3, help="a part that differs more from PyTorch is refused")
    return result


def main(argv=None) -> Path:
    """Runs the script and returns the folder of its files."""
    args = parse_args(parser(), argv)
    networks = random_networks(args.random_size) if args.random_size else folder_networks(Path(args.model_dir))
    check_arguments(args, networks)
    for name in dict.fromkeys(args.part):
        started = time.perf_counter()
        error = export(args, networks, name)
        found = "not checked" if error is None else f"largest error {error:.1e}"
        print(f"{name}: {found}, {time.perf_counter() - started:.0f} s, peak memory so far {peak_memory():.1f} GiB")
    return Path(args.output_dir)


def check_arguments(args, networks: dict[str, Callable]) -> None:
    if not 14 <= args.opset <= 20:
        raise ValueError(f"--opset {args.opset} is not supported: take one of 14 to 20.")
    if unknown := [name for name in args.part if name not in networks]:
        raise ValueError(f"There is no part {unknown[0]} to export: take {', '.join(networks)}.")
    check_packages("onnx", *(["onnxruntime"] if args.check else []))
    existing = [Path(args.output_dir) / name for name in args.part if (Path(args.output_dir) / name).exists()]
    if existing and not args.overwrite:
        raise FileExistsError(f"{existing[0]} exists: choose another --output_dir or pass --overwrite.")


def folder_networks(folder: Path) -> dict[str, Callable[[], Part]]:
    """For each part of the model in a folder a function that loads it."""
    index = folder / "model_index.json"
    if not index.is_file():
        raise FileNotFoundError(f"{folder} is no model folder: it has no model_index.json.")
    classes = {name: value for name, value in json.loads(index.read_text()).items() if isinstance(value, list)}

    def load(subfolder: str) -> torch.nn.Module:
        library, name = classes[subfolder]
        found = getattr({"diffusers": diffusers, "transformers": transformers}[library], name)
        with loading(folder):
            return found.from_pretrained(folder, subfolder=subfolder, dtype=torch.float32)

    unet = classes.get("unet", [None, "no UNet"])[1]
    if unet not in PARTS:
        raise ValueError(f"{folder} has {unet}: only {' and '.join(PARTS)} can be exported.")
    return {part: lambda sub=sub, make=make: make(load(sub)) for part, (sub, make) in PARTS[unet].items()}


def random_networks(size: str) -> dict[str, Callable[[], Part]]:
    """For each part of a published size a function that makes it with random weights."""

    def build(subfolder: str) -> torch.nn.Module:
        name, config = RANDOM_SIZES[size][subfolder]
        torch.manual_seed(0)
        return getattr(diffusers, name)(**config)

    parts = PARTS[RANDOM_SIZES[size]["unet"][0]]
    return {
        part: lambda sub=sub, make=make: make(build(sub))
        for part, (sub, make) in parts.items()
        if sub in RANDOM_SIZES[size]
    }


def export(args, networks: dict[str, Callable[[], Part]], name: str) -> float | None:
    """Write one part; returns the largest error, None where it is not checked."""
    with replacing(Path(args.output_dir) / name) as folder:
        folder.mkdir()
        path = folder / "model.onnx"
        examples = trace(networks[name](), path, args)
        gather_weights(path)
        if not args.check:
            return None
        error = largest_error(path, examples)
        if not error <= args.tolerance:
            raise ValueError(f"{name} differs by {error:.1e} from PyTorch, more than --tolerance {args.tolerance:g}.")
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
