"""Draws images with their depth (or other conditions), and either from the other.

python run_models/run_depth_image.py --mode joint --prompt "a red cube and a blue sphere" --output_dir outputs/pair
python run_models/run_depth_image.py --mode image_to_depth --image photo.png --output_dir outputs/depth
python run_models/run_depth_image.py --mode depth_to_image --depth depth.png --prompt "a green cone" --output_dir outputs/image
python run_models/run_depth_image.py --mode coarse --depth sketch.png --strength 0.6 --output_dir outputs/coarse
"""

import argparse
import json
import time
from pathlib import Path

import diffusers
import numpy as np
import torch
from PIL import Image

import patch
from pipelines.pipeline_stable_diffusion_joint import StableDiffusionJointPipeline
from pipelines.request import default_size
from utils.arguments import parse_args, run_script
from utils.depth import KINDS, color_disparity, normalize_disparity, read_disparity, settle_kind, write_disparity
from utils.files import replacing
from utils.images import cover, read_image, to_image, to_pixels
from utils.pretrained import DTYPES, check_device, loading

REPOSITORY = Path(__file__).resolve().parent.parent
MODES = ("joint", "image_to_depth", "depth_to_image", "coarse")
PROMPT = "a red cube and a blue sphere on a gray floor, white wall"


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = result.add_argument
    add("--mode", choices=MODES, default="joint")
    add("--prompt", help="in joint mode by default a scene of the embedded model, in the others none")
    add("--negative_prompt")
    add("--image", help="what image_to_depth reads and coarse starts from; transparent parts become white")
    add("--depth", help="16 or 8 bits, nearest brightest; the same as --condition depth=FILE")
    add("--condition", nargs="+", default=[], metavar="NAME=FILE", help="pictures for several adapters")
    add(
        "--depth_kind",
        choices=KINDS,
        help="metres: 16 bits of millimetres; default: what the file says, else disparity",
    )
    add("--strength", type=float, default=0.7, help="coarse: share of the noise at which the pictures start")
    add("--output_dir", required=True)
    add("--overwrite", action="store_true", help="accept an output_dir with content")
    add("--pretrained_model_name_or_path", default=str(REPOSITORY / "weights/tiny_sd"))
    add(
        "--adapter",
        nargs="+",
        default=[str(REPOSITORY / "weights/depth_image/depth.safetensors")],
        metavar="[NAME=]PATH",
        help="files, folders, hub names",
    )
    add("--trigger_word", help="leads the prompt of the conditions; by default the one in the adapter's file")
    add("--num_images_per_prompt", type=int, help="by default 4 in joint mode and 1 in the others")
    add("--num_inference_steps", type=int, default=30)
    add("--guidance_scale", type=float, default=5.0)
    add("--condition_guidance_scale", type=float, default=0.0)
    add("--height", type=int)
    add("--width", type=int)
    add("--scheduler", help="class in diffusers, such as UniPCMultistepScheduler; by default the model's own")
    add("--seed", type=int, default=0)
    add("--device", default="cpu")
    add("--dtype", choices=DTYPES, default="float32")
    return result


def main(argv=None) -> Path:
    """Runs the script and returns the folder of its pictures."""
    args = with_defaults(parse_args(parser(), argv))
    check_arguments(args)
    last_files = read_last_run(args)
    image, maps = read_inputs(args)
    pipe = load_pipeline(args)
    image, maps = fit_inputs(args, pipe, image, maps)
    started = time.perf_counter()
    out = pipe(**sampling_arguments(args, image, maps))
    seconds = time.perf_counter() - started
    folder = Path(args.output_dir)
    for name in last_files:
        (folder / name).unlink(missing_ok=True)
    names = write_pictures(folder, out)
    write_record(folder / "run.json", args, names, seconds, out.images[0].size)
    print(f"{len(out.images)} pictures in {seconds:.1f} s: {folder.resolve()}")
    return folder


def with_defaults(args) -> argparse.Namespace:
    """The arguments with what depends on the mode."""
    joint = args.mode == "joint"
    if args.prompt is None and joint:
        args.prompt = PROMPT
    if args.num_images_per_prompt is None:
        args.num_images_per_prompt = 4 if joint else 1
    return args


def check_arguments(args) -> None:
    needed = {"image_to_depth": [args.image], "depth_to_image": [args.depth, *args.condition]}
    if not any(needed.get(args.mode, [True])):
        raise ValueError(f"--mode {args.mode} needs --{args.mode.partition('_')[0]}.")
    if args.mode == "coarse" and not any([args.image, args.depth, *args.condition]):
        raise ValueError("--mode coarse needs --image, --depth or --condition to start from.")
    if args.mode in ("joint", "image_to_depth") and (args.depth or args.condition):
        raise ValueError(f"--mode {args.mode} draws the depth: leave out --depth and --condition, or take coarse.")
    if args.mode in ("joint", "depth_to_image") and args.image:
        raise ValueError(f"--mode {args.mode} draws the image: leave out --image, or take coarse.")
    if wrong := [item for item in args.condition if "=" not in item]:
        raise ValueError(f"--condition {wrong[0]} is not of the form NAME=FILE.")
    if args.scheduler:
        scheduler_class(args.scheduler)
    check_device(args.device)
    check_folder(Path(args.output_dir), args.overwrite)


def check_folder(folder: Path, overwrite: bool) -> None:
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise FileExistsError(f"{existing} is a file: choose another --output_dir.")
    if existing == folder and any(folder.iterdir()) and not overwrite:
        raise FileExistsError(f"{folder} has content: choose another --output_dir or pass --overwrite.")


def read_last_run(args) -> list[str]:
    """The pictures of the run that is overwritten, which are removed; other files in the folder stay."""
    record = Path(args.output_dir) / "run.json"
    if not record.is_file():
        return []
    try:
        return [Path(name).name for name in json.loads(record.read_text())["files"]]
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{record} is no record of a run: remove it, or choose another --output_dir.") from error


def load_pipeline(args) -> StableDiffusionJointPipeline:
    with loading(args.pretrained_model_name_or_path):
        pipe = StableDiffusionJointPipeline.from_pretrained(args.pretrained_model_name_or_path)
    if args.scheduler:
        pipe.scheduler = scheduler_class(args.scheduler).from_config(pipe.scheduler.config)
    for name, path in adapters(args):
        pipe.load_adapter_pair(path, name, args.trigger_word)
    return pipe.to(args.device, DTYPES[args.dtype])


def adapters(args) -> list[tuple[str, str]]:
    """(name, path) of each --adapter; the name comes from the file where none is given."""
    named = [
        ("", text) if "=" not in text or Path(text).exists() else text.partition("=")[::2] for text in args.adapter
    ]
    found = [(name or patch.read_config(path)["name"], path) for name, path in named]
    if nameless := [path for name, path in found if name is None]:
        raise ValueError(f"The adapter in {nameless[0]} has no name of its own: pass --adapter NAME={nameless[0]}.")
    return found


def scheduler_class(name: str):
    found = getattr(diffusers, name, None) or getattr(diffusers, f"{name}Scheduler", None)
    if missing := [package for package in getattr(found, "_backends", []) if package != "torch"]:
        raise ValueError(f"{name} needs {missing[0]}: pip install {missing[0]}.")
    if not (isinstance(found, type) and issubclass(found, diffusers.SchedulerMixin)):
        raise ValueError(f"diffusers has no scheduler {name}: take DDIMScheduler or UniPCMultistepScheduler, say.")
    return found


def read_inputs(args) -> tuple[Image.Image | None, dict[str, np.ndarray]]:
    """The image, and the conditions by the adapter's name, float32 (H, W) in [-1, 1]."""
    files = condition_files(args)
    loaded = [name for name, _ in adapters(args)]
    if unknown := sorted(set(files) - set(loaded)):
        raise ValueError(f"There is no adapter {unknown[0]!r} for the condition: --adapter has {', '.join(loaded)}.")
    image = read_image(args.image) if args.image else None
    return image, {name: read_condition(path, args.depth_kind) for name, path in files.items()}


def read_condition(path: str, kind: str | None) -> np.ndarray:
    """Normalised disparity, float32 (H, W) in [-1, 1]."""
    kind = settle_kind(path, kind, "disparity", "if it holds millimetres, pass --depth_kind metres")
    return normalize_disparity(read_disparity(path, kind))


def condition_files(args) -> dict[str, str]:
    files = dict(item.partition("=")[::2] for item in args.condition)
    return files | ({"depth": args.depth} if args.depth else {})


def fit_inputs(args, pipe, image, maps: dict) -> tuple[Image.Image | None, dict[str, np.ndarray]]:
    """Both brought to one size that the model can take."""
    sizes = ([image.size[::-1]] if image else []) + [values.shape for values in maps.values()]
    if not sizes:
        return None, {}
    size, files = target_size(args, pipe, sizes[0]), condition_files(args)
    image = to_image(fit(to_pixels(image), size, args.image)) if image else None
    return image, {name: fit(torch.from_numpy(v)[None], size, files[name])[0].numpy() for name, v in maps.items()}


def target_size(args, pipe, size: tuple[int, int]) -> tuple[int, int]:
    """--height and --width; without either the shorter side becomes the model's and the shape stays, up to multiples."""
    if args.height or args.width:
        default = default_size(pipe)
        return args.height or default[0], args.width or default[1]
    multiple = pipe.vae_scale_factor * 2 ** (len(pipe.unet.config.block_out_channels) - 1)
    scale = min(default_size(pipe)) / min(size)
    return tuple(max(multiple, round(side * scale / multiple) * multiple) for side in size)


def fit(picture: torch.Tensor, size: tuple[int, int], path: str) -> torch.Tensor:
    """(C, H, W) resized to cover `size`, and its middle cut out."""
    found = tuple(picture.shape[-2:])
    if found == size:
        return picture
    print(f"{path}: {found[1]}x{found[0]} pixels are resized and cropped to {size[1]}x{size[0]}.")
    return cover(picture, size)


def sampling_arguments(args, image, conditions: dict) -> dict:
    arguments = {
        "prompt": args.prompt,
        "negative_prompt": args.negative_prompt,
        "num_images_per_prompt": args.num_images_per_prompt,
        "num_inference_steps": args.num_inference_steps,
        "guidance_scale": args.guidance_scale,
        "condition_guidance_scale": args.condition_guidance_scale,
        "generator": torch.Generator().manual_seed(args.seed),
    }
    if image is None and not conditions:
        arguments |= {"height": args.height, "width": args.width}
    if image is not None:
        arguments |= {"image": image}
    if conditions:
        arguments |= {"condition": conditions}
    if args.mode == "coarse":
        arguments |= {"strength": args.strength} if image is not None else {}
        arguments |= {"condition_strength": dict.fromkeys(conditions, args.strength)}
    return arguments


def write_pictures(folder: Path, out) -> list[str]:
    """For each pair the image, each condition in colours and in 16 bits, and all of them side by side."""
    names = []
    for i, image in enumerate(out.images):
        row = [image]
        names += [save(folder / f"{i:02}_image.png", image)]
        for name, values in out.values.items():
            row += [color_disparity(values[i]) if name == "depth" else out.conditions[name][i]]
            names += [save(folder / f"{i:02}_{name}.png", row[-1])]
            write_disparity(folder / f"{i:02}_{name}_16bit.png", values[i])
            names += [f"{i:02}_{name}_16bit.png"]
        names += [save(folder / f"{i:02}_side_by_side.png", side_by_side(row))]
    return names


def side_by_side(pictures: list[Image.Image]) -> Image.Image:
    return Image.fromarray(np.concatenate([np.asarray(picture.convert("RGB")) for picture in pictures], axis=1))


def save(path: Path, picture: Image.Image) -> str:
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG")
    return path.name


def write_record(path: Path, args, names: list[str], seconds: float, size: tuple[int, int]) -> None:
    versions = {"torch": torch.__version__, "diffusers": diffusers.__version__}
    record = {"arguments": vars(args), "files": names, "width": size[0], "height": size[1]}
    record |= {"seconds": round(seconds, 2), "versions": versions}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    run_script(main)
