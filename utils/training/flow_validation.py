"""Validation of trainings on flow: errors of flow, alone or beside its video, and flow sampled from first frames."""

from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import torch
from torch import nn

from utils.diffusion.svd_condition import Condition
from utils.flow.backward_flow import move_along
from utils.flow.code import FlowCode
from utils.flow.images import color_flow
from utils.training.validation import HeldOut, Measure, Show
from utils.video import to_frames

SLOWEST = 1.0  # pixels that have full colours in a clip without motion
Modes = dict[str, tuple[bool, ...]]


def flow_errors(
    code: FlowCode, errors: Callable, modes: Modes, moved: Collection[str] = (), seen: Collection[str] = ()
) -> Measure:
    """Errors of v of the sides that are denoised, by mode; `loss` is the mean of all modes.

    Args:
        code: Of the training, with its scale.
        errors: (network, mode, clean, noise, sigma, condition) -> squared errors of v (S,), of clean latents (S, F, C,
            h, w) of one clip; S is 1, the flow, or 2, video and flow. sigma (S,) is 0 for a side that is given.
        modes: By name which of the sides are denoised; the others are given.
        moved: Modes in which the conditioning image of the video is the image as the given flow moves it.
        seen: Modes in which all frames of the given video are conditioning images of the flow.
    """

    def measure(network: nn.Module, clip: HeldOut) -> dict[str, torch.Tensor]:
        clean = encode_sides(clip, code, sides=len(next(iter(modes.values()))))
        conditions = _conditions(clip, code, clean, modes, moved, seen)
        found = {mode: [] for mode in modes}
        for sigma, noise in clip.levels(clean):
            for mode, denoised in modes.items():
                learns = torch.tensor(denoised, device=clean.device)
                error = errors(network, mode, clean, noise, sigma * learns, conditions[mode])
                found[mode].append(error[learns].mean())
        means = {mode: torch.stack(errors).mean() for mode, errors in found.items()}
        return {"loss": torch.stack(list(means.values())).mean()} | (means if len(means) > 1 else {})

    return measure


def encode_sides(clip: HeldOut, code: FlowCode, sides: int) -> torch.Tensor:
    """Clean latents (S, F, C, h, w), the flow last."""
    flow = code.scale.normalize(clip.encode(clip.sample["flow_pixel_values"]))
    return torch.stack([clip.encode(clip.sample["pixel_values"]), flow] if sides > 1 else [flow])


def _conditions(
    clip: HeldOut, code: FlowCode, clean: torch.Tensor, modes: Modes, moved: Collection[str], seen: Collection[str]
) -> dict[str, Condition]:
    """Conditions of the sides in each mode."""
    images = [None]
    if moved:
        images.append(move_along(clip.sample["image"], code.to_flow(clip.sample["flow_pixel_values"]))[None])
    plain, *warped = clip.conditions(*images)
    scaling_factor = clip.svd.pipe.vae.config.scaling_factor

    def of_mode(mode: str, sides: int) -> Condition:
        video = warped[0] if mode in moved else plain
        flow = plain.with_frames(clean[:1], scaling_factor) if mode in seen else plain
        return Condition.join([video, flow][-sides:])

    return {mode: of_mode(mode, len(denoised)) for mode, denoised in modes.items()}


def show_flow(code: FlowCode, sample_flow: Callable[[dict], tuple[torch.Tensor | None, torch.Tensor]]) -> Show:
    """Rows of frames, where videos are sampled, and of flow: truth above the sample, flow in one scale of colours.

    sample_flow: From a sample to a video (F, 3, H, W) in [-1, 1], or None, and flow (F - 1, 2, H, W) in pixels.
    """

    def show(sample: dict, path: Path) -> list[np.ndarray]:
        true_flow = code.to_flow(sample["flow_pixel_values"])
        video, flow = sample_flow(sample)
        videos = [sample["pixel_values"]] + ([] if video is None else [video.cpu()])
        longest = max(float(true_flow.norm(dim=1).max()), SLOWEST)
        flows = [flow_row(one, longest) for one in (true_flow, flow.cpu())]
        return [to_frames(frames) for frames in videos] + flows

    return show


def flow_row(flow: torch.Tensor, longest: float) -> np.ndarray:
    """Flow (F - 1, 2, H, W) in Middlebury's colours, and a black image for the last frame: uint8 (F, H, W, 3)."""
    colors = [color_flow(one, longest) for one in flow.float()]
    return np.stack([*colors, np.zeros_like(colors[0])])
