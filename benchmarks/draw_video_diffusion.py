"""Plot the figures of docs/video_diffusion.md: preconditioning, noise levels, samples of a tiny model while it learns.

python -m benchmarks.draw_video_diffusion --output_dir docs
python -m benchmarks.draw_video_diffusion --output_dir docs --train_dir outputs/tiny_svd_1 --steps 500 2000 --clips 0 2
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from diffusers import EulerDiscreteScheduler

from models.tiny_svd import NUM_FRAMES, RESOLUTION, make_scheduler
from utils.arguments import make_parser, parse_args, run_script
from utils.diffusion.edm import EDM
from utils.files import replacing
from utils.images import read_image
from utils.messages.words import count

# Distributions of training: what it is for, and its EDM.
TRAINED = {
    "SVD at 576x1024": EDM(1.0, 1.6),
    "SVD at 320x576": EDM(0.7, 1.6),
    "tiny_svd": EDM(0.5, 1.4),
}
STEPS = 25
GAP = 16  # pixels between two clips


def parser() -> argparse.ArgumentParser:
    result = make_parser(__doc__)
    add = result.add_argument
    add("--output_dir", required=True, help="folder of the figures; those of the same names are replaced")
    add(
        "--train_dir",
        help="output folder of train_tiny_svd --stage unet (default: none, and only the formulas are plotted)",
    )
    add("--steps", type=int, nargs="+", help="steps of the validation sheets to show (default: all)")
    add("--clips", type=int, nargs="+", default=[0, 1], help="clips of the validation sheets to show")
    return result


def main(argv=None) -> Path:
    """Runs the script and returns the folder of its figures."""
    args = parse_args(parser(), argv)
    sheets = read_sheets(Path(args.train_dir), args.steps, args.clips) if args.train_dir else {}
    folder = Path(args.output_dir)
    save(plot_formulas(), folder / "video_diffusion_formulas.png")
    if sheets:
        save(plot_learning(sheets, args.clips), folder / "video_diffusion.png")
    return folder


def read_sheets(folder: Path, steps: list[int] | None, clips: list[int]) -> dict[int, np.ndarray]:
    """By step the rows of a validation sheet: (2 N, H, F W, 3), truth and sample of each clip in turn."""
    found = {int(path.name.split("_")[0]): path for path in sorted(folder.glob("validation/*_samples.png"))}
    if not found:
        raise FileNotFoundError(f"{folder} has no validation/*_samples.png: train with --validation_steps.")
    if missing := [step for step in steps or [] if step not in found]:
        raise ValueError(f"{folder} has no sheet of step {missing[0]}, only of {', '.join(map(str, found))}.")
    return {step: read_rows(found[step], clips) for step in steps or found}


def read_rows(path: Path, clips: list[int]) -> np.ndarray:
    values = np.asarray(read_image(path))
    if values.shape[0] % (2 * RESOLUTION) or values.shape[1] != NUM_FRAMES * RESOLUTION:
        raise ValueError(f"{path} is no sheet of clips of {NUM_FRAMES} frames of {RESOLUTION}x{RESOLUTION}.")
    rows = values.reshape(-1, RESOLUTION, *values.shape[1:])
    if not 0 <= min(clips) <= max(clips) < len(rows) // 2:
        raise ValueError(f"--clips {clips}: {path} has {count(len(rows) // 2, 'clip')}, counted from 0.")
    return rows


def plot_learning(sheets: dict[int, np.ndarray], clips: list[int]):
    """A column for each clip: the true one, and below it the samples after so many steps."""
    from matplotlib.figure import Figure

    first = next(iter(sheets.values()))
    strips = {"true clip": join([first[2 * clip] for clip in clips])}
    strips |= {f"{step:,} steps": join([rows[2 * clip + 1] for clip in clips]) for step, rows in sheets.items()}
    width = strips["true clip"].shape[1]
    figure = Figure(figsize=(width / 100 + 1.3, len(strips) * (RESOLUTION + 8) / 100), layout="constrained")
    for axes, (name, strip) in zip(figure.subplots(len(strips), 1), strips.items(), strict=True):
        axes.imshow(strip, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        axes.set_ylabel(name, rotation=0, ha="right", va="center")
    return figure


def join(strips: list[np.ndarray]) -> np.ndarray:
    """Images of one height beside each other, white between them."""
    gap = np.full((RESOLUTION, GAP, 3), 255, np.uint8)
    parts = [part for strip in strips for part in (gap, strip)]
    return np.concatenate(parts[1:], axis=1)


def plot_formulas():
    """Factors of the preconditioning, densities of the noise levels in training, and the levels of sampling."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.8), layout="constrained")
    factors, densities, levels = figure.subplots(1, 3)
    sigma = torch.logspace(-2.7, 2.85, 400, dtype=torch.float64)
    for name, values in preconditioning(sigma).items():
        factors.plot(sigma, values, label=name)
    for name, edm in TRAINED.items():
        densities.plot(sigma, density(edm, sigma), label=f"{name}: ({edm.sigma_mean}, {edm.sigma_std})")
    for maximum in (700.0, 80.0):
        levels.plot(range(STEPS), sampling_levels(maximum), "o-", ms=3, label=f"from {maximum:g}")
    factors.set(xscale="log", xlabel="σ", title="preconditioning")
    densities.set(xscale="log", xlabel="σ", ylim=(0, 0.4), title="density of ln σ in training")
    levels.set(yscale="log", xlabel="step", ylabel="σ", title=f"levels of {STEPS} steps")
    for axes in (factors, densities, levels):
        axes.legend(frameon=False)
        axes.grid(alpha=0.3)
    return figure


def preconditioning(sigma: torch.Tensor) -> dict[str, torch.Tensor]:
    """Values (N,) of c_skip, c_out and c_in at levels (N,), as `EDM` applies them."""
    edm, one, zero = EDM(), torch.ones_like(sigma), torch.zeros_like(sigma)
    return {
        "c_skip": edm.denoised(one, zero, sigma),
        "c_out": edm.denoised(zero, one, sigma),
        "c_in": edm.scale_input(one, sigma),
    }


def density(edm: EDM, sigma: torch.Tensor) -> torch.Tensor:
    """Density (N,) of ln(sigma) at levels (N,) in training."""
    return torch.distributions.Normal(edm.sigma_mean, edm.sigma_std).log_prob(sigma.log()).exp()


def sampling_levels(maximum: float) -> np.ndarray:
    """Levels (STEPS,) that the scheduler goes down, without the last one, zero."""
    scheduler = EulerDiscreteScheduler.from_config(make_scheduler().config, sigma_max=maximum)
    scheduler.set_timesteps(STEPS)
    return scheduler.sigmas[:-1].numpy()


def save(figure, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=100, bbox_inches="tight")


if __name__ == "__main__":
    run_script(main)
