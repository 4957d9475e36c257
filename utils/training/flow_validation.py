"""Validation of trainings on flow: errors on clips that they do not see, and flow drawn from their first frames."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from utils.diffusion.condition import Condition
from utils.diffusion.edm import EDM
from utils.flow.backward_flow import move_along
from utils.flow.code import FlowCode
from utils.flow.pictures import color_flow
from utils.latents import ENCODED_TOGETHER
from utils.processes import process_state
from utils.training.checkpoints import find_checkpoint
from utils.training.validation import Validation
from utils.video import contact_sheet, to_frames

SHOWN = 4  # clips of a picture
SLOWEST = 1.0  # pixels that have full colours in a clip without motion
Draw = Callable[[dict], tuple[torch.Tensor | None, torch.Tensor]]


class FlowValidation(Validation):
    """What `utils.training.loop.fit` calls as `validate`, where a network draws flow, alone or beside its video.

    Args:
        pipe, edm, folder, seed: As of `Validation`.
        samples: Of `SVDTraining.held_out`.
        code: Of the training, with its scale.
        errors: (unet, mode, clean, noise, sigma, condition) -> squared errors of v (S,), of clean latents (S, F, C, h, w) of one
            clip; S is 1, the flow, or 2, video and flow. sigma (S,) is 0 for a side that is given.
        draw: From a sample to a video (F, 3, H, W) in [-1, 1], or None, and flow (F - 1, 2, H, W) in pixels.
        modes: By name which of the sides are denoised; the others are given.
        moved_picture: Whether a video whose flow is given is told the image as that flow moves it.
    """

    def __init__(
        self,
        pipe,
        samples: Sequence[dict],
        edm: EDM,
        folder: Path,
        seed: int,
        *,
        code: FlowCode,
        errors: Callable,
        draw: Draw,
        modes: dict[str, tuple[bool, ...]],
        moved_picture: bool = False,
    ):
        super().__init__(pipe, samples, edm, folder, seed=seed)
        self.code, self.errors, self.draw, self.modes = code, errors, draw, modes
        self.moved_picture = moved_picture

    def __call__(self, unet: torch.nn.Module, step: int) -> dict[str, Image.Image]:
        """Log the losses, and return a sheet: for each clip rows of frames and of flow, truth above what is drawn."""
        self._log(step, self.losses(unet))
        rows = [row for sample in self.samples[:SHOWN] for row in self._rows(sample)]
        return {"samples": contact_sheet(np.concatenate(rows), columns=len(rows[0]))}

    def _errors(self, unet, sample: dict, generator: torch.Generator) -> dict[str, torch.Tensor]:
        clean = self._sides(sample)
        conditions = self._told(sample, generator)
        found = {mode: [] for mode in self.modes}
        for sigma in self._levels():
            noise = torch.randn(clean.shape, generator=generator).to(clean)
            for mode, denoised in self.modes.items():
                learns = torch.tensor(denoised, device=clean.device)
                condition = conditions[denoised]
                errors = self.errors(unet, mode, clean, noise, sigma.to(clean) * learns, condition)
                found[mode].append(errors[learns].mean())
        means = {mode: torch.stack(errors).mean() for mode, errors in found.items()}
        return {"loss": torch.stack(list(means.values())).mean()} | (means if len(means) > 1 else {})

    def _told(self, sample: dict, generator: torch.Generator) -> dict[tuple[bool, ...], Condition]:
        """The conditions of the sides, by which of these are denoised."""
        if not self.moved_picture:
            plain = self._condition(sample, generator)
            return {denoised: plain.repeat(len(denoised)) for denoised in self.modes.values()}
        pictures = move_along(sample["image"], self.code.to_flow(sample["flow_pixel_values"]))[None]
        plain, moved = self._conditions(sample, generator, None, pictures)
        told = {denoised: plain if denoised[-1] else moved for denoised in self.modes.values()}
        return {denoised: Condition.join([video, plain]) for denoised, video in told.items()}

    def _sides(self, sample: dict) -> torch.Tensor:
        """Clean latents (S, F, C, h, w), the flow last."""
        flow = self.code.scale.normalize(self._encode(sample["flow_pixel_values"]))
        together = len(next(iter(self.modes.values()))) > 1
        return torch.stack([self._encode(sample["pixel_values"]), flow] if together else [flow])

    def _rows(self, sample: dict) -> list[np.ndarray]:
        """Rows uint8 (F, H, W, 3); flow in one scale of colours for truth and sample."""
        true_flow = self.code.to_flow(sample["flow_pixel_values"])
        video, flow = self.draw(sample)
        videos = [sample["pixel_values"]] + ([] if video is None else [video.cpu()])
        longest = max(float(true_flow.norm(dim=1).max()), SLOWEST)
        return [to_frames(frames) for frames in videos] + [flow_row(one, longest) for one in (true_flow, flow.cpu())]


def flow_row(flow: torch.Tensor, longest: float) -> np.ndarray:
    """Flow (F - 1, 2, H, W) in Middlebury's colours, and a black picture for the last frame: uint8 (F, H, W, 3)."""
    colors = [color_flow(one, longest) for one in flow.float()]
    return np.stack([*colors, np.zeros_like(colors[0])])


def start_flow_validation(args, pipe, samples, edm: EDM, **options) -> FlowValidation | None:
    """The validation of `--held_out_clips`, with the losses before the training; None where no clip is held out."""
    if not samples:
        return None
    validation = FlowValidation(pipe, samples, edm, Path(args.output_dir) / "validation", args.seed, **options)
    if find_checkpoint(args) is None and process_state().is_main_process:
        pipe.to(process_state().device)
        validation.measure_start(pipe.unet)
    return validation


def sample_options(sample: dict, args) -> dict:
    """Arguments of a pipeline's call for a sample that is held out."""
    return {
        "num_frames": len(sample["pixel_values"]),
        "num_inference_steps": args.num_inference_steps,
        "fps": float(sample["fps"]),
        "motion_bucket_id": float(sample["motion_bucket_id"]),
        "decode_chunk_size": ENCODED_TOGETHER,
        "generator": torch.Generator().manual_seed(args.seed),
    }
