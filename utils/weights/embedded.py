"""The small models in `weights`, which have seen the procedural world and nothing else."""

from pathlib import Path

import torch

from utils.arguments import REPOSITORY
from utils.messages.notices import notice
from utils.scenes.likeness import looks_rendered

RELEASED = {
    "tiny_sd": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "tiny_svd": "stabilityai/stable-video-diffusion-img2vid-xt",
    "trip": "stabilityai/stable-video-diffusion-img2vid-xt",
}


def is_embedded(base: str | Path) -> bool:
    """Whether the base is one of the small models of this project."""
    return Path(base).resolve().parent == REPOSITORY / "weights" and Path(base).name in RELEASED


def warn_of_photograph(base: str | Path, pixels: torch.Tensor, name: str, flag: str) -> None:
    """Say on stderr, once a run, that an embedded base gets an image of something that it has never seen.

    Args:
        base: Folder or hub name.
        pixels: (3, H, W) in [-1, 1].
        name: Of the image, for the sentence.
        flag: By which the user passes another base, or what of another base to pass.
    """
    if sentence := doubt_photograph(base, pixels, name, f"pass {flag} {{}}"):
        notice(sentence, about=f"photograph for {Path(base).name}")


def doubt_photograph(base: str | Path, pixels: torch.Tensor, name: str, remedy: str) -> str | None:
    """A sentence where an embedded base gets an image of something that it has never seen, else None.

    Args:
        base, pixels, name: As of `warn_of_photograph`.
        remedy: How to take another base, with {} in the place of its name.
    """
    if not is_embedded(base) or looks_rendered(pixels):
        return None
    small = Path(base).name
    return (
        f"{name} does not look like the procedural world, all that the small model weights/{small} knows, so expect "
        f"little of the result; for photographs {remedy.format(RELEASED[small])} or another released model."
    )
