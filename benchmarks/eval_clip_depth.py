"""Measure the depth of the last frames of a real clip, by an adapter that was trained on its first frames.

python -m benchmarks.eval_clip_depth prepare --frames_dir clip --output_dir data/clip
python train_models/train_depth_image.py --train_data_dir data/clip --resolution 64 --output_dir outputs/clip ...
python -m benchmarks.eval_clip_depth evaluate --frames_dir clip --adapter outputs/clip --output_dir outputs/clip_eval

The true depth is relative (8 bits, brighter is nearer), so errors are those of disparity: mean |a d + b - truth| as a
share of the range of the truth, with a and b fitted by least squares. It is compared with the best constant, and with
the depth of the last training frame. Writes results.json, and frames.png: rows of images, truth, adapter, and last
training frame.
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks import protocol
from pipelines.pipeline_stable_diffusion_joint import StableDiffusionJointPipeline
from utils.arguments import make_parser, parse_args, positive_int, run_script, seed
from utils.data.geometry import Geometry
from utils.data.records import METADATA
from utils.depth import color_disparity, normalize_disparity, read_disparity
from utils.files import replacing
from utils.images import read_image, to_image, to_pixels
from utils.messages.words import count
from utils.metrics.depth import align_disparity
from utils.pretrained import loading

PATTERNS = {"image": "depthvid_rgb_{}.png", "depth": "depthvid_depth_{}.png"}


def main(argv=None) -> None:
    args = parse_args(parser(), argv)
    folder = Path(args.output_dir)
    check(args, folder)
    if args.command == "prepare":
        prepare(args, folder)
    else:
        evaluate(args, folder, protocol.make_run("eval_clip_depth", argv))


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    add = result.add_argument
    add("command", choices=["prepare", "evaluate"])
    add("--frames_dir", required=True, help="folder of the clip")
    for name, pattern in PATTERNS.items():
        add(f"--{name}_pattern", default=pattern, help=f"file of the {name} of frame {{}}")
    add("--train_frames", type=frames, default="0-5", help="first and last frame of the training")
    add("--test_frames", type=frames, default="10-15", help="first and last frame of the test")
    add("--output_dir", required=True, help="new folder of the data set, or of the results")
    add("--pretrained_model_name_or_path", default="weights/tiny_sd", help="base")
    add("--adapter", default="outputs/clip/depth.safetensors", help="depth adapter of train_depth_image.py")
    add("--resolution", type=positive_int, default=64, help="side of an image in pixels")
    add("--num_samples", type=positive_int, default=4, help="samples of a frame, whose mean counts")
    add("--num_inference_steps", type=positive_int, default=30, help="denoising steps")
    add("--seed", type=seed, default=0, help="noise seed")
    return result


def check(args: argparse.Namespace, folder: Path) -> None:
    """Raises one sentence about what would fail after a model is loaded."""
    protocol.check_empty(folder)
    numbers = args.train_frames if args.command == "prepare" else [*args.train_frames[-1:], *args.test_frames]
    for number in numbers:
        for pattern in (args.image_pattern, args.depth_pattern):
            protocol.check_file(
                Path(args.frames_dir, pattern.format(number)), "frame", "change --frames_dir or the patterns"
            )
    if args.command == "evaluate":
        protocol.check_file(args.adapter, "--adapter", "name a file of train_depth_image.py")


def frames(text: str) -> range:
    first, last = map(int, text.split("-"))
    return range(first, last + 1)


def prepare(args, folder: Path) -> None:
    """An image folder of the training frames."""
    with replacing(folder) as temporary:
        temporary.mkdir(parents=True)
        lines = []
        for number in args.train_frames:
            image, depth = (pattern.format(number) for pattern in (args.image_pattern, args.depth_pattern))
            for name in (image, depth):
                shutil.copyfile(Path(args.frames_dir) / name, temporary / name)
            record = {"file_name": image, "depth_file_name": depth, "depth_kind": "disparity", "text": ""}
            lines.append(json.dumps(record) + "\n")
        (temporary / METADATA).write_text("".join(lines))
    print(f"{count(len(lines), 'frame')} in {folder.resolve()}")


def evaluate(args, folder: Path, command: dict) -> None:
    images, truths = zip(*(read_frame(args, number) for number in args.test_frames), strict=True)
    _, repeated = read_frame(args, args.train_frames[-1])
    sampled = sample(args, images)
    methods = {
        "adapter": sampled,
        "constant": [np.zeros_like(truth) for truth in truths],
        f"depth of frame {args.train_frames[-1]}": [repeated] * len(truths),
    }
    errors = {
        name: [disparity_error(prediction, truth) for prediction, truth in zip(predictions, truths, strict=True)]
        for name, predictions in methods.items()
    }
    for name, values in errors.items():
        print(f"{name:18} {np.mean(values):.4f}   per frame: {' '.join(f'{value:.4f}' for value in values)}")
    rows = [
        [to_image(image) for image in images],
        *([show(d) for d in row] for row in (truths, sampled, [repeated] * len(truths))),
    ]
    with replacing(folder) as temporary:
        temporary.mkdir(parents=True)
        counts = dict.fromkeys(errors, len(truths))
        results = {name: by_frame(values, args.test_frames) for name, values in errors.items()}
        settings = vars(args) | {name: list(getattr(args, name)) for name in ("train_frames", "test_frames")}
        protocol.write_results(temporary / "results.json", "eval_clip_depth", [command], settings, results, counts)
        sheet = np.concatenate([np.concatenate([np.asarray(image) for image in row], axis=1) for row in rows])
        Image.fromarray(sheet).resize((sheet.shape[1] * 3, sheet.shape[0] * 3)).save(temporary / "frames.png")
    print(f"Rows: image, truth, adapter, last training frame: {folder.resolve() / 'frames.png'}")


def by_frame(errors: list[float], numbers: range) -> dict[str, float]:
    """The mean error, and that of each frame."""
    return {"error": float(np.mean(errors))} | {f"frame_{k}": error for k, error in zip(numbers, errors, strict=True)}


def read_frame(args, number: int) -> tuple[torch.Tensor, np.ndarray]:
    """Image (3, H, W) and normalised disparity (H, W), both in [-1, 1]."""
    middle = Geometry(args.resolution)
    folder = Path(args.frames_dir)
    disparity = read_disparity(folder / args.depth_pattern.format(number), "disparity")
    depth = middle.apply(torch.from_numpy(disparity)[None])[0].numpy()
    return middle.apply(to_pixels(read_image(folder / args.image_pattern.format(number)))), normalize_disparity(depth)


def sample(args, images) -> np.ndarray:
    """Mean of the depths sampled for each image, (N, H, W)."""
    with loading(args.pretrained_model_name_or_path):
        pipe = StableDiffusionJointPipeline.from_pretrained(args.pretrained_model_name_or_path)
    name = pipe.load_adapter_pair(args.adapter)
    out = pipe(
        image=[to_image(image) for image in images],
        num_images_per_prompt=args.num_samples,
        num_inference_steps=args.num_inference_steps,
        generator=torch.Generator().manual_seed(args.seed),
    )
    return out.values[name].reshape(len(images), args.num_samples, args.resolution, args.resolution).mean(axis=1)


def disparity_error(prediction: np.ndarray, truth: np.ndarray) -> float:
    aligned = align_disparity(prediction.ravel(), truth.ravel())
    return float(np.abs(aligned - truth.ravel()).mean() / (truth.max() - truth.min()))


def show(disparity: np.ndarray) -> Image.Image:
    return color_disparity(normalize_disparity(disparity))


if __name__ == "__main__":
    run_script(main)
