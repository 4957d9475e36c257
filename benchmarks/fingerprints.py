"""Hash what the commands of a checkout write, to tell whether a change of the code changed a result.

python -m benchmarks.fingerprints --output_path before.json --repository ../before
python -m benchmarks.fingerprints --output_path after.json --against before.json

Each command runs in its own process on one thread, with a fixed seed: one sampling of each run script, and three steps
of each train script on eight rendered scenes or clips. Hashed are values and not files: tensors of weights, pixels of
images and frames, flow, and losses.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from tqdm.auto import tqdm

from utils.arguments import parse_args, run_script
from utils.files import replacing
from utils.flow import read_flo
from utils.images import read_image
from utils.video import read_video

REPOSITORY = Path(__file__).resolve().parent.parent
SCENES, CLIPS = "{data}/scenes", "{data}/clips"
IMAGE = SCENES + "/images/0000003.png"
THREE_STEPS = "--max_train_steps 3 --train_batch_size 2 --logging_steps 1 --seed 0 --mixed_precision no"
ON_CLIPS = f"--train_data_dir {CLIPS} --num_frames 8 --random_flip"
CACHED = "--cache_latents --clip_frames 16 --cache_dir {data}/cache"
DATA = {
    "scenes": "-m utils.scenes.write_dataset --num_samples 8 --output_dir " + SCENES,
    "clips": "-m utils.scenes.write_clips --num_samples 8 --num_tracks 8 --output_dir " + CLIPS,
}
COMMANDS = {
    "run_depth_image": "run_models/run_depth_image.py --mode joint --output_dir {out}",
    "run_svd": f"run_models/run_svd.py --input_image {IMAGE} --num_inference_steps 5 --output_video {{out}}/video.mp4",
    "run_flow_video": f"run_models/run_flow_video.py --input_image {IMAGE} --num_inference_steps 5 "
    "--output_dir {out}",
    "run_trajectory": f"run_models/run_trajectory.py --input_image {IMAGE} --tracks {{data}}/tracks.json "
    "--num_inference_steps 5 --output_dir {out}",
    "run_trajectory_controlnet": f"run_models/run_trajectory.py --method controlnet --input_image {IMAGE} "
    "--tracks {data}/tracks.json --num_inference_steps 5 --output_dir {out}",
    "train_depth_image": f"train_models/train_depth_image.py --train_data_dir {SCENES} --resolution 64 --rank 4 "
    f"--output_dir {{out}} {THREE_STEPS}",
    "train_svd": f"train_models/train_svd.py {ON_CLIPS} --held_out_frames 8 --num_validation_samples 1 "
    f"--num_inference_steps 2 --output_dir {{out}} {THREE_STEPS}",
    "train_svd_lora": f"train_models/train_svd.py --trainable lora {ON_CLIPS} {CACHED} --output_dir {{out}} "
    + THREE_STEPS,
    "train_svd_flow": f"train_models/train_svd_flow.py {ON_CLIPS} {CACHED} --held_out_clips 1 --num_inference_steps 2 "
    f"--output_dir {{out}} {THREE_STEPS}",
    "train_flow_video": f"train_models/train_flow_video.py --rank 4 --temporal {ON_CLIPS} --held_out_clips 1 "
    f"--num_inference_steps 2 --output_dir {{out}} {THREE_STEPS}",
    "train_trajectory": f"train_models/train_trajectory.py {ON_CLIPS} {CACHED} --held_out_clips 1 "
    f"--num_inference_steps 2 --output_dir {{out}} {THREE_STEPS}",
    "train_tiny_sd": "train_models/train_tiny_sd.py --stage unet --init_from weights/tiny_sd "
    f"--train_data_dir {SCENES} --vae weights/tiny_sd/vae --output_dir {{out}} {THREE_STEPS}",
    "train_tiny_svd": f"train_models/train_tiny_svd.py --stage unet --train_data_dir {CLIPS} --vae weights/tiny_sd/vae "
    f"--cache_dir {{data}}/cache --output_dir {{out}} {THREE_STEPS}",
    "train_judges": f"train_models/train_judges.py --judges depth --train_data_dir {SCENES} --vae weights/tiny_sd/vae "
    f"--num_validation_samples 2 --output_dir {{out}} {THREE_STEPS}",
}
TRACKS = {"tracks": [[[20, 40], [30, 40]]], "static_points": [[50, 50]]}


def main(argv=None) -> None:
    args = parse_args(make_parser(), argv)
    wanted = args.commands or list(COMMANDS)
    expected = json.loads(Path(args.against).read_text()) if args.against else None
    found = fingerprint(Path(args.repository).resolve(), wanted)
    with replacing(args.output_path) as temporary:
        temporary.write_text(json.dumps(found, indent=2) + "\n")
    print(f"Written: {args.output_path}")
    if expected is not None:
        for line in compare(expected, found):
            print(line)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--repository", default=str(REPOSITORY), help="checkout whose commands run (default: this one)")
    add("--commands", nargs="+", choices=COMMANDS, help="commands to run (default: all)")
    add("--output_path", required=True, help="JSON file of the hashes")
    add("--against", help="JSON file of another checkout to compare with (default: none)")
    return parser


def fingerprint(repository: Path, names: list[str]) -> dict[str, dict[str, str]]:
    """Hashes by command and by file."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        for command in DATA.values():
            run(repository, command.format(data=data))
        (data / "tracks.json").write_text(json.dumps(TRACKS))
        found = {}
        for name in tqdm(names, desc="commands"):
            out = Path(folder) / name
            out.mkdir()
            run(repository, COMMANDS[name].format(data=data, out=out) + " --overwrite")
            found[name] = {str(path.relative_to(out)): hash_values(path) for path in results(out)}
    return found


def run(repository: Path, command: str) -> None:
    """Raises a RuntimeError with the end of what a failing command printed."""
    environment = os.environ | {"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, *command.split()], check=False, cwd=repository, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{command} failed: {done.stderr[-2000:]}")


def results(folder: Path) -> list[Path]:
    """Files whose values are hashed; checkpoints hold the weights a second time."""
    kinds = (".safetensors", ".png", ".mp4", ".flo", ".jsonl")
    files = sorted(path for path in folder.rglob("*") if path.suffix in kinds)
    return [path for path in files if path.name != "loss.png" and "checkpoint" not in str(path.relative_to(folder))]


def hash_values(path: Path) -> str:
    """SHA-256 of the values in a file, in the order of their names."""
    digest = hashlib.sha256()
    for value in read_values(path):
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()[:16]


def read_values(path: Path) -> list[np.ndarray]:
    if path.suffix == ".safetensors":
        return [value for _, value in sorted(load_file(path).items())]
    if path.suffix == ".png":
        return [np.asarray(read_image(path))]
    if path.suffix == ".mp4":
        return [read_video(path).pixels.numpy()]
    if path.suffix == ".flo":
        return [read_flo(path)]
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [np.array([value for key, value in sorted(row.items()) if key != "seconds"], float) for row in rows]


def compare(expected: dict, found: dict) -> list[str]:
    """A line for each command: how many of its files are equal, and which are not."""
    lines = []
    for name, files in found.items():
        before = expected.get(name, {})
        differing = sorted(file for file in before.keys() | files.keys() if before.get(file) != files.get(file))
        equal = len(files.keys() & before.keys()) - sum(file in files and file in before for file in differing)
        lines.append(
            f"{name}: {equal} of {len(before.keys() | files.keys())} files equal"
            + (f", differing: {', '.join(differing)}" if differing else "")
        )
    return lines


if __name__ == "__main__":
    run_script(main)
