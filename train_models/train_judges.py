"""Train the judges of the evaluations: on scenes of the procedural world and on what an autoencoder makes of them, and on clips.

python -m utils.scenes.write_dataset --output_dir data/judge_scenes --num_samples 12500 --seed 1000000
python train_models/train_judges.py --train_data_dir data/judge_scenes --vae weights/tiny_sd/vae --output_dir outputs/judges

python -m utils.scenes.write_clips --output_dir data/judge_clips --num_samples 1500 --seed 1000000 --first_frames 8
python train_models/train_judges.py --judges video --clips_dir data/judge_clips --output_dir outputs/video_judge
"""

import argparse
import json
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch.utils.data import Subset

from utils.arguments import parse_args, positive_int, run_script
from utils.depth import read_depth
from utils.files import replacing
from utils.judges import AttributeJudge, DepthJudge, load_judge, save_judge
from utils.judges.clips import ClipJudgeDataset, Clips
from utils.judges.data import NOTHING, JudgeDataset, Scenes, from_bytes, reconstruct_scenes
from utils.judges.storage import JUDGES
from utils.judges.video import DAMAGES, VideoJudge
from utils.metrics.attributes import score_objects
from utils.metrics.depth import depth_errors
from utils.pretrained import loading
from utils.training.loop import add_training_arguments, check_output_dir, fit

RECIPE = ("max_train_steps", "train_batch_size", "learning_rate", "seed", "num_validation_samples")
# Each about 1 before anything is learned.
FACT_WEIGHTS = {
    "camera": 1.0, "camera_way": 20.0, "motion": 10.0, "direction": 10.0, "speed": 5.0, "count": 1.0, "colors": 4.0, "damage": 2.0,
}  # fmt: skip
VERSIONS = {"renderings": 0, "reconstructions": 1}


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--train_data_dir", help="for depth and attributes: folder written by utils.scenes.write_dataset")
    add("--vae", help="for depth and attributes: folder of the autoencoder")
    add("--clips_dir", help="for video: folder written by utils.scenes.write_clips")
    add("--judges", nargs="+", choices=list(JUDGES), default=["depth", "attributes"])
    add("--max_train_samples", type=positive_int, help="use the first scenes or clips only")
    add("--num_validation_samples", type=positive_int, default=500, help="last scenes or clips, not trained on")
    add_training_arguments(parser, train_batch_size=32, max_train_steps=4000, learning_rate=2e-3, lr_scheduler="cosine")
    parser.set_defaults(lr_warmup_steps=100)
    args = parse_args(parser, argv)
    runs = [run_arguments(args, name) for name in args.judges]
    for run in runs:
        check_output_dir(run)
    check_data(args)
    loaders = {"clips": cache(lambda: load_clips(args)), "pictures": cache(lambda: load_dataset(args))}
    for name, run in zip(args.judges, runs, strict=True):
        dataset = loaders["clips" if name == "video" else "pictures"]()
        first_held_out = len(dataset) - args.num_validation_samples
        train(name, run, dataset, range(first_held_out), range(first_held_out, len(dataset)))
    write_card(Path(args.output_dir))


def run_arguments(args, name: str) -> argparse.Namespace:
    """Each judge has a run of its own, in a folder of its own."""
    return argparse.Namespace(**{**vars(args), "output_dir": str(Path(args.output_dir) / name)})


def check_data(args) -> None:
    """Raise a ValueError if a judge lacks what it learns from."""
    for judge in args.judges:
        for flag in ("clips_dir",) if judge == "video" else ("train_data_dir", "vae"):
            if getattr(args, flag) is None:
                raise ValueError(f"--judges {judge} needs --{flag}.")


def load_dataset(args) -> JudgeDataset:
    with loading(args.vae):
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
        save_judge(folder.parent / f"{name}.safetensors", judge, recipe=recipe, metrics=measured)

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


@torch.no_grad()
def depth_metrics(judge: DepthJudge, dataset: JudgeDataset, indices: range, version: int) -> dict[str, float]:
    """Mean errors against the renderer's depth."""
    disparities = torch.cat([judge(pixels).float().cpu() for pixels in batches(judge, dataset, indices, version)])
    truths = [read_depth(dataset.scenes.depth_files[index]) for index in indices]
    errors = [depth_errors(d.numpy(), metres) for d, metres in zip(disparities, truths, strict=True)]
    return {"abs_rel": mean(e.abs_rel for e in errors), "delta1": mean(e.delta1 for e in errors)}


def attribute_metrics(judge: AttributeJudge, dataset: JudgeDataset, indices: range, version: int) -> dict[str, float]:
    """Shares that are right: colours and shapes of objects, and the number of objects."""
    found = [objects for pixels in batches(judge, dataset, indices, version) for objects in judge.read(pixels)]
    expected = [[(one["color"], one["shape"]) for one in dataset.scenes.objects[index]] for index in indices]
    scores = [score_objects(*pair) for pair in zip(found, expected, strict=True)]
    objects = sum(score.objects for score in scores)
    return {
        "color": sum(score.color for score in scores) / objects,
        "shape": sum(score.shape for score in scores) / objects,
        "count": mean(score.count for score in scores),
    }


@torch.no_grad()
def video_metrics(judge: VideoJudge, dataset: ClipJudgeDataset, indices: range) -> dict[str, float]:
    """Shares that are right (camera, number of objects, colours that are there or not, damage), and mean error of the motion in pixels."""
    intact = judged(judge, [dataset.sample(i) for i in indices])
    kinds = [i % len(DAMAGES) for i in indices]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        damaged = judged(judge, [dataset.sample(i, kind=kind) for i, kind in zip(indices, kinds, strict=True)])
    motion = [(said["motion"].expm1() - sample["motion"].expm1()).abs().item() for said, sample in intact]
    return {
        **{name: mean(said[name].argmax() == sample[name] for said, sample in intact) for name in ("camera", "count")},
        "colors": mean(((said["colors"] > 0) == sample["colors"].bool()).float().mean() for said, sample in intact),
        "motion": mean(motion),
        "damage": mean(said["damage"].argmax() == sample["damage"] for said, sample in damaged),
    }


def judged(judge: VideoJudge, samples: list[dict]) -> list[tuple[dict, dict]]:
    """What the judge says of each sample, with the sample."""
    device = next(judge.parameters()).device
    said = [{k: v[0].cpu() for k, v in judge(sample["video"][None].to(device)).items()} for sample in samples]
    return list(zip(said, samples, strict=True))


def batches(judge, dataset: JudgeDataset, indices: range, version: int):
    """Pixels (B, 3, H, W) of some scenes where the judge is."""
    device = next(judge.parameters()).device
    for values in dataset.versions[version][indices.start : indices.stop].split(50):
        yield from_bytes(values).to(device)


def mean(values) -> float:
    return float(np.mean(list(values)))


def write_card(folder: Path) -> None:
    """README.md of the judges in a folder, from what their files say."""
    lines = ["# Judges", "", "They look at pictures and clips of the procedural world, for `benchmarks/`.", ""]
    for name in JUDGES:
        if (path := folder / f"{name}.safetensors").is_file():
            lines += card_of(name, path)
    with replacing(folder / "README.md") as temporary:
        temporary.write_text("\n".join(lines))


def card_of(name: str, path: Path) -> list[str]:
    from safetensors import safe_open

    parameters = sum(weight.numel() for weight in load_judge(path).parameters())
    with safe_open(path, "pt") as file:
        training = json.loads(file.metadata()["training"])
    recipe, metrics = training["recipe"], training["metrics"]
    names = list(next(iter(metrics.values())))
    things, drawn = ("clips", "clips") if "clips" in metrics else ("pictures", "scenes")
    versions = {
        "pictures": "half of the pictures as rendered, half through the autoencoder",
        "clips": "as rendered, 30% damaged on purpose",
    }
    how = (
        f"{parameters:,} parameters. {recipe['max_train_steps']} steps of {recipe['train_batch_size']} {things} from "
        f"{recipe['scenes']} {drawn}, seed {recipe['seed']}, learning rate {recipe['learning_rate']}; "
        f"{versions[things]}, by `train_scripts/train_judges.sh`. On {recipe['num_validation_samples']} {drawn} that it was not "
        "trained on:"
    )
    head = [f"| {things} | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    rows = [f"| {kind} | " + " | ".join(f"{values[n]:.4f}" for n in names) + " |" for kind, values in metrics.items()]
    return [f"## `{path.name}`", "", how, "", *head, *rows, ""]


if __name__ == "__main__":
    run_script(main)
