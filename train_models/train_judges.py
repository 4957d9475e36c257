"""Train the judges of the evaluations: on scenes, as rendered and as an autoencoder reconstructs them, and on clips.

python -m utils.scenes.write_dataset --output_dir data/judge_scenes --num_samples 12500 --seed 1000000
python train_models/train_judges.py --train_data_dir data/judge_scenes --vae weights/tiny_sd/vae \
  --output_dir outputs/judges

python -m utils.scenes.write_clips --output_dir data/judge_clips --num_samples 1500 --seed 1000000 --first_frames 8
python train_models/train_judges.py --judges video --clips_dir data/judge_clips --output_dir outputs/video_judge
"""

import argparse
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch.utils.data import Subset

from utils import arguments
from utils.arguments import parse_args, positive_int, run_script
from utils.judges import save_judge
from utils.judges.card import is_card, write_card
from utils.judges.clips import ClipJudgeDataset, Clips
from utils.judges.data import NOTHING, JudgeDataset, Scenes, reconstruct_scenes
from utils.judges.measures import attribute_metrics, depth_metrics, video_metrics
from utils.judges.storage import JUDGES
from utils.pretrained import loading
from utils.training.checkpoints import find_checkpoint
from utils.training.loop import add_training_arguments, check_output_dir, fit

RECIPE = ("max_train_steps", "train_batch_size", "learning_rate", "seed", "num_validation_samples")
# Each about 1 before anything is learned.
FACT_WEIGHTS = {
    "camera": 1.0, "camera_way": 20.0, "motion": 10.0, "direction": 10.0, "speed": 5.0, "count": 1.0, "colors": 4.0,
    "damage": 2.0,
}  # fmt: skip
VERSIONS = {"renderings": 0, "reconstructions": 1}


def main(argv=None) -> None:
    args = parse_args(make_parser(), argv)
    runs = [run_arguments(args, name) for name in args.judges]
    for run in runs:
        check_output_dir(run)
    check_results(args, runs)
    check_data(args)
    loaders = {"clips": cache(lambda: load_clips(args)), "images": cache(lambda: load_dataset(args))}
    for name, run in zip(args.judges, runs, strict=True):
        dataset = loaders["clips" if name == "video" else "images"]()
        first_held_out = len(dataset) - args.num_validation_samples
        train(name, run, dataset, range(first_held_out), range(first_held_out, len(dataset)))
    write_card(Path(args.output_dir))


def make_parser() -> argparse.ArgumentParser:
    parser = arguments.make_parser(__doc__)
    add = parser.add_argument
    add("--train_data_dir", help="scenes of utils.scenes.write_dataset, for depth and attributes (default: none)")
    add("--vae", help="folder of the autoencoder, for depth and attributes (default: none)")
    add("--clips_dir", help="clips of utils.scenes.write_clips, for video (default: none)")
    add("--judges", nargs="+", choices=list(JUDGES), default=["depth", "attributes"], help="judges to train")
    add("--max_train_samples", type=positive_int, help="first scenes or clips to use (default: all)")
    add("--num_validation_samples", type=positive_int, default=500, help="last scenes or clips, not trained on")
    recipe = {"train_batch_size": 32, "max_train_steps": 4000, "learning_rate": 2e-3, "lr_scheduler": "cosine"}
    add_training_arguments(parser, **recipe, lr_warmup_steps=100)
    return parser


def run_arguments(args, name: str) -> argparse.Namespace:
    """Each judge has a run of its own, in a folder of its own."""
    return argparse.Namespace(**{**vars(args), "output_dir": str(Path(args.output_dir) / name)})


def check_results(args, runs: list[argparse.Namespace]) -> None:
    """Raise a FileExistsError for a judge, or a README.md that is no card of judges, that would be replaced."""
    folder, card = Path(args.output_dir), Path(args.output_dir) / "README.md"
    judges = [result(folder, name) for name, run in zip(args.judges, runs, strict=True) if not find_checkpoint(run)]
    found = [path for path in judges if path.exists()] + [card] * (card.exists() and not is_card(card))
    if found and not args.overwrite:
        raise FileExistsError(f"{found[0]} exists and would be replaced; pass --overwrite, or another --output_dir.")


def result(folder: Path, name: str) -> Path:
    """The file of a trained judge."""
    return folder / f"{name}.safetensors"


def check_data(args) -> None:
    """Raise a ValueError if a judge lacks what it learns from."""
    for judge in args.judges:
        for flag in ("clips_dir",) if judge == "video" else ("train_data_dir", "vae"):
            if getattr(args, flag) is None:
                raise ValueError(f"--judges {judge} needs --{flag}.")


def load_dataset(args) -> JudgeDataset:
    with loading(args.vae, AutoencoderKL, "--vae"):
        vae = AutoencoderKL.from_pretrained(args.vae, dtype=torch.float32)
    scenes = Scenes(args.train_data_dir, args.max_train_samples)
    check_count(args, len(scenes), "scenes")
    return JudgeDataset(scenes, reconstruct_scenes(vae, scenes))


def load_clips(args) -> ClipJudgeDataset:
    clips = Clips(args.clips_dir, args.max_train_samples)
    check_count(args, len(clips), "clips")
    return ClipJudgeDataset(clips)


def check_count(args, count: int, things: str) -> None:
    if count <= args.num_validation_samples:
        raise ValueError(f"{count} {things} leave none to train on: lower --num_validation_samples.")


def train(name: str, args, dataset: JudgeDataset | ClipJudgeDataset, trained: range, held_out: range) -> None:
    losses = {"depth": depth_loss, "attributes": attribute_loss, "video": video_loss}
    metrics = {"depth": depth_metrics, "attributes": attribute_metrics}

    def measure(judge) -> dict[str, dict[str, float]]:
        if name == "video":
            judge.calibrate(sample["video"][None].to(judge.mean.device) for sample in map(dataset.sample, trained))
            return {"clips": video_metrics(judge, dataset, held_out)}
        return {v: metrics[name](judge, dataset, held_out, number) for v, number in VERSIONS.items()}

    def save(judge, folder):
        measured = measure(judge)
        recipe = {key: getattr(args, key) for key in RECIPE} | {"scenes": len(trained)}
        path = result(folder.parent, name)
        save_judge(path, judge, recipe=recipe, metrics=measured)
        return path

    torch.manual_seed(args.seed)
    fit(args, JUDGES[name](), Subset(dataset, trained), losses[name], save=save)


def depth_loss(judge, batch):
    return F.l1_loss(judge(batch["pixels"]).float(), batch["disparity"])


def attribute_loss(judge, batch):
    """Where objects stand, and of what colour and shape they are there."""
    middles, colors, shapes = (logits.float() for logits in judge(batch["pixels"]))
    middle = F.binary_cross_entropy_with_logits(middles, batch["middles"])
    color = F.cross_entropy(colors, batch["colors"], ignore_index=NOTHING)
    shape = F.cross_entropy(shapes, batch["shapes"], ignore_index=NOTHING)
    return 5 * middle + color + shape, {"middle": middle, "color": color, "shape": shape}


def video_loss(judge, batch):
    """What a clip shows, where it is intact, and what was done to it."""
    said, intact = judge(batch["video"]), batch["intact"]
    said = {name: value.float() for name, value in said.items()}
    losses = {name: F.cross_entropy(said[name], batch[name], reduction="none") for name in ("camera", "count")}
    losses["colors"] = F.binary_cross_entropy_with_logits(said["colors"], batch["colors"], reduction="none").mean(1)
    for name in ("camera_way", "motion", "direction", "speed"):
        losses[name] = F.smooth_l1_loss(said[name], batch[name], reduction="none").mean(1)
    facts = {name: (loss * intact).sum() / intact.sum().clamp(min=1) for name, loss in losses.items()}
    facts["damage"] = F.cross_entropy(said["damage"], batch["damage"])
    return sum(FACT_WEIGHTS[name] * loss for name, loss in facts.items()), facts


if __name__ == "__main__":
    run_script(main)
