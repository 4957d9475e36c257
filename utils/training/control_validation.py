"""Validation of trainings of a ControlNet: errors with the control and of the base, and videos that follow it."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from utils.diffusion.edm import EDM, Denoiser
from utils.tracks.control_map import draw_control
from utils.tracks.drawing import SMALLEST_SIDE, draw_paths
from utils.tracks.heuristic_flow import move_picture
from utils.training.validation import Validation
from utils.video import contact_sheet, to_frames


class ControlValidation(Validation):
    """What `utils.training.loop.fit` calls as `validate`; `loss.jsonl` has `loss`, with the control, and `base`, without it.

    Args:
        pipe, edm, folder, seed: As of `Validation`.
        samples: Of `SVDTraining.held_out`.
        draw: From a sample, its control (1, F, C, H, W) and its moved pictures (1, F, 3, H, W) to a video (F, 3, H, W) in [-1, 1].
    """

    def __init__(
        self,
        pipe,
        samples: Sequence[dict[str, torch.Tensor]],
        edm: EDM,
        folder: Path,
        seed: int,
        draw: Callable[[dict, torch.Tensor, torch.Tensor], torch.Tensor],
    ):
        super().__init__(pipe, samples, edm, folder, seed=seed)
        self.draw = draw

    def __call__(self, unet: torch.nn.Module, step: int) -> dict[str, Image.Image]:
        """Log the losses, and return a sheet: rows of truth, each above what follows the control, with the points' paths."""
        self._log(step, self.losses(unet))
        rows = []
        for sample in self.samples:
            wanted = sample["points"][:, sample["shown"][0]]
            rows += [add_paths(video, wanted) for video in (sample["pixel_values"], self._draw(sample))]
        return {"samples": contact_sheet(np.concatenate(rows), columns=len(rows[0]))}

    def _errors(self, unet, sample: dict, generator: torch.Generator) -> dict[str, torch.Tensor]:
        x_0 = self._encode(sample["pixel_values"])[None]
        control = control_of(sample).to(x_0)
        plain, moved = self._conditions(sample, generator, None, pictures_of(sample))
        found = {"loss": [], "base": []}
        for sigma in self._levels():
            noise = torch.randn(x_0.shape, generator=generator).to(x_0)
            for name, scale, condition in (("loss", 1.0, moved), ("base", 0.0, plain)):
                controlled = partial(unet, control=control, conditioning_scale=scale)
                found[name].append(Denoiser(controlled, self.edm).loss(x_0, noise, sigma[None].to(x_0), condition))
        return {name: torch.cat(errors).mean() for name, errors in found.items()}

    def _draw(self, sample: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.draw(sample, control_of(sample), pictures_of(sample)).cpu().float()


def control_of(sample: dict[str, torch.Tensor]) -> torch.Tensor:
    """The control (1, F, C, H, W) of a sample."""
    return draw_control(sample["points"], sample["shown"], sample["image"].shape[-2:])[None]


def pictures_of(sample: dict[str, torch.Tensor]) -> torch.Tensor:
    """The moved pictures (1, F, 3, H, W) of a sample."""
    return move_picture(sample["points"], sample["shown"], sample["image"])[None]


def add_paths(video: torch.Tensor, wanted: torch.Tensor) -> np.ndarray:
    """Frames of a video (F, 3, H, W), enlarged where they are small, with the ways of points (F, N, 2) up to each."""
    scale = max(1, round(SMALLEST_SIDE / min(video.shape[-2:])))
    return np.stack([draw_paths(frame, wanted[: k + 1], scale=scale) for k, frame in enumerate(to_frames(video))])
