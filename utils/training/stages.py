"""The two stages in which a small base is trained from nothing: its autoencoder, then the networks that sample."""

import argparse
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from utils.arguments import make_parser, parse_args
from utils.training.loop import add_training_arguments, check_output_dir

LATENT_WEIGHT = 1.0  # of the error of imitated latents
SPREAD_WEIGHT = 0.01  # of the error of their posterior's log-variance

Stage = Callable[[argparse.Namespace], None]


def stage_parser(description: str, further: str) -> argparse.ArgumentParser:
    """A parser with the flags of a training in stages and of the training loop.

    Args:
        description: The script's docstring.
        further: What --init_from takes, for its help.
    """
    parser = make_parser(description)
    add = parser.add_argument_group("stage").add_argument
    add(
        "--stage",
        choices=["vae", "unet"],
        required=True,
        help="what to train: the autoencoder, or the networks that sample",
    )
    add("--vae", help="folder of the trained autoencoder, for --stage unet (default: none)")
    add("--init_from", help=f"{further}, to train further (default: none)")
    add_training_arguments(parser)
    return parser


def run_stage(parser: argparse.ArgumentParser, argv: list[str] | None, vae: Stage, unet: Stage) -> None:
    """Train one stage by the flags of `stage_parser`. Raises ValueError for --stage unet without --vae."""
    args = parse_args(parser, argv)
    if args.stage == "unet" and args.vae is None:
        raise ValueError("--stage unet needs --vae: pass the folder that --stage vae has written.")
    check_output_dir(args)
    torch.manual_seed(args.seed)
    (vae if args.stage == "vae" else unet)(args)


def reconstruction_loss(decoded: torch.Tensor, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """||decoded - pixels||² + ||decoded - pixels||₁ / 2, means over pixels in [-1, 1], and the PSNR in decibels."""
    error = F.mse_loss(decoded.float(), pixels)
    return error + 0.5 * F.l1_loss(decoded.float(), pixels), 10 * torch.log10(4 / error.detach())


def imitation_loss(clips: torch.Tensor, moments: torch.Tensor, teacher: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """The error of an encoder's latents against those of a teacher, and the share of the latents' variance that it is.

    Args:
        clips: Frames (B, F, 3, H, W) in [-1, 1].
        moments: Mean and log-variance (B F, 2 C, h, w) of the posterior.
        teacher: An `AutoencoderKL`.
    """
    with torch.no_grad():
        mean, spread = teacher.encode(clips.flatten(0, 1)).latent_dist.parameters.float().chunk(2, dim=1)
    own_mean, own_spread = moments.float().chunk(2, dim=1)
    error = F.mse_loss(own_mean, mean)
    return LATENT_WEIGHT * error + SPREAD_WEIGHT * F.mse_loss(own_spread, spread), error.detach() / mean.var()
