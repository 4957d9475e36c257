"""The README of a folder of judges, from what their files say."""

import json
from pathlib import Path

from safetensors import safe_open

from utils.files import replacing
from utils.judges import load_judge
from utils.judges.storage import JUDGES

HEAD = ["# Judges", "", "They look at images and clips of the procedural world, for `benchmarks/`.", ""]


def is_card(path: Path) -> bool:
    """Whether a file is one of `write_card`."""
    return path.read_bytes().startswith("\n".join(HEAD).encode())


def write_card(folder: Path) -> None:
    """README.md of the judges in a folder, from what their files say."""
    lines = [*HEAD]
    for name in JUDGES:
        if (path := folder / f"{name}.safetensors").is_file():
            lines += card_of(path)
    with replacing(folder / "README.md") as temporary:
        temporary.write_text("\n".join(lines))


def card_of(path: Path) -> list[str]:
    """Lines on one judge."""
    parameters = sum(weight.numel() for weight in load_judge(path).parameters())
    with safe_open(path, "pt") as file:
        training = json.loads(file.metadata()["training"])
    recipe, metrics = training["recipe"], training["metrics"]
    names = list(next(iter(metrics.values())))
    things, drawn = ("clips", "clips") if "clips" in metrics else ("images", "scenes")
    versions = {
        "images": "half of the images as rendered, half through the autoencoder",
        "clips": "as rendered, 30% damaged on purpose",
    }
    how = (
        f"{parameters:,} parameters. {recipe['max_train_steps']} steps of {recipe['train_batch_size']} {things} from "
        f"{recipe['scenes']} {drawn}, seed {recipe['seed']}, learning rate {recipe['learning_rate']}; "
        f"{versions[things]}, by `train_scripts/train_judges.sh`. On {recipe['num_validation_samples']} {drawn} "
        "that it was not trained on:"
    )
    head = [f"| {things} | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    rows = [f"| {kind} | " + " | ".join(f"{values[n]:.4f}" for n in names) + " |" for kind, values in metrics.items()]
    return [f"## `{path.name}`", "", how, "", *head, *rows, ""]
