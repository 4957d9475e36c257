"""What trainings of ControlNets on Stable Video Diffusion share: flags, the loss, held-out errors, the save."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from utils.arguments import share
from utils.diffusion.edm import EDM, Denoiser
from utils.diffusion.svd_condition import ConditionEncoder
from utils.training.results import save_parts
from utils.training.svd_arguments import svd_parser
from utils.training.svd_losses import draw_condition, encode_clips
from utils.training.validation import HeldOut, Measure


def make_parser(description: str):
    """The parser of a training of a ControlNet, and its group of flags of the control."""
    parser = svd_parser(description, gradient_checkpointing=True)
    group = parser.add_argument_group("control")
    add = group.add_argument
    add("--controlnet_model_name_or_path", help="ControlNet to train further (default: a copy of the base)")
    add("--control_dropout_prob", type=share, default=0.1, help="share of samples without the control")
    return parser, group


def draw_kept(batch: dict, args) -> torch.Tensor:
    """bool (B,): samples that keep their control."""
    image = batch["image"]
    return (torch.rand(len(image)) >= args.control_dropout_prob).to(image.device)


def v_loss(
    model,
    batch: dict,
    control: torch.Tensor,
    encoder: ConditionEncoder,
    edm: EDM,
    args,
    image_frames: torch.Tensor | None = None,
) -> torch.Tensor:
    """||F - v||² at one noise level a clip, with a control.

    Args:
        model: A `models.svd_controlnet.ControlledUNet`.
        control: (B, F, C, H, W).
        image_frames: Conditioning images of all frames (B, F, 3, H, W); the first frame by default.
    """
    x_0 = encode_clips(batch, encoder.vae)
    B, F = x_0.shape[:2]
    condition = draw_condition(batch, F, encoder, args, image_frames)
    sigma = edm.draw_sigmas(B).to(x_0.device)
    denoiser = Denoiser(partial(model, control=control), edm)
    return denoiser.loss(x_0, torch.randn_like(x_0), sigma, condition).mean()


def v_errors(
    model, clip: HeldOut, control: torch.Tensor, image_frames: torch.Tensor | None = None
) -> dict[str, torch.Tensor]:
    """Mean errors of v: `loss` with the control, and `base` without it, from the first frame alone.

    Args:
        control: (1, F, C, H, W).
        image_frames: Conditioning images (1, F, 3, H, W) of `loss`; the first frame by default.
    """
    x_0 = clip.encode(clip.sample["pixel_values"])[None]
    conditions = [clip.condition()] * 2 if image_frames is None else clip.conditions(None, image_frames)
    found = {"loss": [], "base": []}
    for sigma, noise in clip.levels(x_0):
        for name, scale, condition in zip(("base", "loss"), (0.0, 1.0), conditions, strict=True):
            controlled = partial(model, control=control.to(x_0), conditioning_scale=scale)
            found[name].append(Denoiser(controlled, clip.svd.edm).loss(x_0, noise, sigma[None], condition))
    return {name: torch.cat(errors).mean() for name, errors in found.items()}


def fit(svd, model, loss: Callable, measure: Measure, show: Callable) -> None:
    """Train the ControlNet of a training on Stable Video Diffusion.

    Args:
        svd: A `utils.training.svd.SVDTraining` whose pipeline has a ControlNet.
        model: Its `models.svd_controlnet.ControlledUNet`.
        measure, show: As of `Validation`; `show` takes `svd` first.
    """

    def save(model, folder: Path) -> None:
        save_parts(folder, model.controlnet.half().save_pretrained)
        if svd.buckets:
            svd.buckets.save(folder)

    parameters = list(svd.pipe.controlnet.parameters())
    svd.fit(loss, save=save, parameters=parameters, model=model, measure=measure, show=partial(show, svd))
