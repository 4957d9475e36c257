"""TRIP over video UNets: the first frame's clean latents join the noisy frames in time, at their own noise level.

The UNet itself is not changed: it gets one frame more, whose time embedding is replaced on the way into its blocks, and
the output of that frame is dropped. Without the wrapper it is the UNet that it was.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from diffusers import UNetSpatioTemporalConditionModel
from torch import nn

from models.trip import TripFusion, noise_prior
from utils.diffusion.edm import EDM, Denoiser
from utils.diffusion.svd_condition import Condition


@dataclass(frozen=True)
class TripCondition(Condition):
    """The condition of Stable Video Diffusion, and the first frame.

    Attributes:
        first: Its clean, scaled latents (B, 1, C, h, w). They stay where the rest is dropped.
    """

    first: torch.Tensor

    @classmethod
    def of(cls, condition: Condition, first: torch.Tensor) -> "TripCondition":
        return cls(condition.image_embeddings, condition.image_latents, condition.time_ids, first)


class TripUNet(nn.Module):
    """`UNetSpatioTemporalConditionModel` with the image noise prior: v of EDM latents."""

    def __init__(self, unet: UNetSpatioTemporalConditionModel, fusion: TripFusion):
        super().__init__()
        self.unet, self.fusion = unet, fusion
        self.edm = EDM()

    def forward(self, x_t: torch.Tensor, sigma: torch.Tensor, condition: TripCondition) -> torch.Tensor:
        """v (B, F, C, h, w), in the type of x_t.

        Args:
            x_t: Noisy latents (B, F, C, h, w), float32.
            sigma: Noise levels (B,), above 0.
            condition: Of the B samples.
        """
        residual = self.predict_residual(x_t, sigma, condition)
        first = condition.first.to(x_t)
        prior = self.edm.velocity(first, noise_prior(x_t, first, sigma), sigma)
        return self.fusion(prior, residual, sigma)

    def predict_residual(self, x_t: torch.Tensor, sigma: torch.Tensor, condition: TripCondition) -> torch.Tensor:
        """The UNet's own v (B, F, C, h, w)."""
        form, embeddings = self.fusion.form, condition.image_embeddings
        beside = condition.image_latents * form.channels
        noisy = torch.cat([self.edm.scale_input(x_t, sigma), beside.to(x_t)], dim=2)
        given = torch.cat([condition.first, beside[:, :1]], dim=2).to(x_t)  # c_in is 1
        given_level = self.edm.timestep(torch.zeros_like(sigma))
        inputs = place_frame(noisy, given, form.place).to(embeddings.dtype)
        with given_frame(self.unet, given_level, form.place, inputs.shape[1]):
            v = self.unet(inputs, self.edm.timestep(sigma), embeddings, condition.time_ids, return_dict=False)[0]
        return drop_frame(v, form.place).to(x_t.dtype)


class TripDenoiser(Denoiser):
    """`Denoiser` of a `TripUNet`; its conditions are `TripCondition`s."""

    def predict(self, x_t: torch.Tensor, sigma: torch.Tensor, condition: TripCondition) -> torch.Tensor:
        return self.unet(x_t, sigma, condition)


def place_frame(frames: torch.Tensor, given: torch.Tensor, place: str | None) -> torch.Tensor:
    """Frames (B, F, …) and the given one (B, 1, …), in front of them or at the end."""
    if place is None:
        return frames
    return torch.cat([given, frames] if place == "front" else [frames, given], dim=1)


def drop_frame(frames: torch.Tensor, place: str | None) -> torch.Tensor:
    """The inverse of `place_frame`."""
    if place is None:
        return frames
    return frames[:, 1:] if place == "front" else frames[:, :-1]


@contextmanager
def given_frame(unet: nn.Module, timestep: torch.Tensor, place: str | None, num_frames: int) -> Iterator[None]:
    """Within it the given frame has the time embedding of `timestep` (B,), while the others keep that of the call.

    Such UNets have one timestep a video. Their blocks take a row of the embedding for each frame, of (B F) in all; one
    of each video is replaced before they get it.
    """
    if place is None:
        yield
        return
    index, change = {"front": 0, "end": num_frames - 1}[place], []

    def measure(embedding: nn.Module, args: tuple, output: torch.Tensor) -> None:
        projected = unet.time_proj(timestep).to(args[0].dtype)
        change[:] = [embedding.forward(projected) - output]

    def replace(block: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        if "temb" in kwargs:
            return args, kwargs | {"temb": shifted(kwargs["temb"])}
        return (args[0], shifted(args[1]), *args[2:]), kwargs  # the middle block of UNet3DConditionModel

    def shifted(rows: torch.Tensor) -> torch.Tensor:
        rows = rows.unflatten(0, (-1, num_frames))
        chosen = torch.arange(num_frames, device=rows.device)[None, :, None] == index
        return torch.where(chosen, rows + change[0][:, None], rows).flatten(0, 1)

    blocks = [*unet.down_blocks, unet.mid_block, *unet.up_blocks]
    hooks = [unet.time_embedding.register_forward_hook(measure)]
    hooks += [block.register_forward_pre_hook(replace, with_kwargs=True) for block in blocks]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
