"""Classifier-free guidance of a video: how strong at each frame, at which noise levels, and in which directions."""

import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True, eq=False)
class FrameGuidance:
    """From the predictions without and with the image to the guided one.

    Attributes:
        scales: (1, F, 1, 1, 1), of each frame.
        interval: Noise levels, lowest and highest, between which the guidance acts (arXiv 2404.07724); outside of it the prediction
            with the image is taken as it is.
        parallel: Share of the guidance that is kept parallel to the estimate of the clean latents, 0 to 1 (arXiv 2410.02416):
            that part makes colours and contrasts stronger. 1 is plain guidance, 0 keeps what is orthogonal alone.
    """

    scales: torch.Tensor
    interval: tuple[float, float] = (0.0, math.inf)
    parallel: float = 1.0

    def __call__(self, free: torch.Tensor, told: torch.Tensor, x_0: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """Guided prediction (B, F, C, h, w) at noise level sigma, () or (B,) all the same.

        Args:
            free, told: Predictions without and with the image.
            x_0: Estimate of the clean latents with the image.
        """
        low, high = self.interval
        if not low <= sigma.flatten()[0] <= high:
            return told
        scales = self.scales.to(told)
        if self.parallel == 1:
            return free + scales * (told - free)
        difference = told - free
        return told + (scales - 1) * (difference - (1 - self.parallel) * project(difference, x_0))


def guidance_over_frames(num_frames: int, minimum: float = 1.0, maximum: float = 3.0) -> torch.Tensor:
    """Guidance scales (1, F, 1, 1, 1), growing linearly from the first frame, which is known, to the last."""
    return torch.linspace(minimum, maximum, num_frames)[None, :, None, None, None]


def project(difference: torch.Tensor, onto: torch.Tensor) -> torch.Tensor:
    """The part of each frame's difference (B, F, C, h, w) that is parallel to that frame of `onto`."""
    dims = (-3, -2, -1)
    length = onto.square().sum(dims, keepdim=True).clamp(min=torch.finfo(onto.dtype).tiny)
    return (difference * onto).sum(dims, keepdim=True) / length * onto
