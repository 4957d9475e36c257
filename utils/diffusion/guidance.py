"""Guidance: from several predictions of one sample to the one that a step is made with.

    v = v_u + s (v_c - v_u) + s_j (v_c - v_s)

v_c is the conditional prediction; v_u the unconditional one (classifier-free guidance, arXiv 2207.12598); v_s the
conditional one of a separate model, without joint attention (UniCon, arXiv 2410.11439; for a video the inner guidance
of VideoJAM, arXiv 2502.02492).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

UNCONDITIONAL, CONDITIONAL, SEPARATE = "unconditional", "conditional", "separate"
EVERYWHERE = (0.0, math.inf)  # noise levels


@dataclass(frozen=True, eq=False)
class Guidance:
    """How several predictions of a sample become one.

    Attributes:
        scale: s, a number or a tensor that broadcasts to predictions; None for no unconditional prediction.
        joint_scale: s_j; 0 for no prediction of a separate model.
        interval: Noise levels, lowest and highest, between which s acts (arXiv 2404.07724); outside of it s is 1.
        parallel: Share of s (v_c - v_u) that is kept parallel to the estimate of the clean latents, 0 to 1 (arXiv
            2410.02416): that part makes colours and contrasts stronger. 1 is plain guidance, 0 keeps what is
            orthogonal alone.
    """

    scale: float | torch.Tensor | None = None
    joint_scale: float = 0.0
    interval: tuple[float, float] = EVERYWHERE
    parallel: float = 1.0

    @property
    def terms(self) -> tuple[str, ...]:
        """The predictions that it needs, in the order of the batch."""
        terms = [UNCONDITIONAL] * (self.scale is not None) + [CONDITIONAL] + [SEPARATE] * (self.joint_scale != 0)
        return tuple(terms)

    def estimate(self, side, predictions: dict[str, torch.Tensor], i: int) -> torch.Tensor:
        """What the step of a side (`pipelines/sides.py`) is made with in iteration i."""
        return side.estimate(self.combine(predictions, side.level(i), partial(side.estimate, i=i)), i)

    def combine(
        self,
        predictions: dict[str, torch.Tensor],
        level: torch.Tensor,
        clean: Callable[[torch.Tensor], torch.Tensor],
    ) -> torch.Tensor:
        """The guided prediction (B, ...).

        Args:
            predictions: By their names in `terms`; those that are missing are left out.
            level: Noise level, () or (B,) all the same.
            clean: From a prediction to its estimate of the clean latents.
        """
        guided = conditional = predictions[CONDITIONAL]
        if UNCONDITIONAL in predictions and self.acts(level):
            guided = self._guided(predictions[UNCONDITIONAL], conditional, clean)
        if SEPARATE in predictions:
            guided = guided + self.joint_scale * (conditional - predictions[SEPARATE])
        return guided

    def acts(self, level: torch.Tensor) -> bool:
        """Whether s acts at a noise level, () or (B,) all the same."""
        low, high = self.interval
        return self.interval == EVERYWHERE or bool(low <= level.flatten()[0] <= high)

    def _guided(self, unconditional: torch.Tensor, conditional: torch.Tensor, clean: Callable) -> torch.Tensor:
        scale = self.scale.to(conditional) if isinstance(self.scale, torch.Tensor) else self.scale
        difference = conditional - unconditional
        if self.parallel == 1:
            return unconditional + scale * difference
        kept = difference - (1 - self.parallel) * project(difference, clean(conditional))
        return conditional + (scale - 1) * kept


def guidance_over_frames(num_frames: int, minimum: float = 1.0, maximum: float = 3.0) -> torch.Tensor:
    """Guidance scales (1, F, 1, 1, 1), growing linearly from the first frame, which is known, to the last."""
    return torch.linspace(minimum, maximum, num_frames)[None, :, None, None, None]


def project(difference: torch.Tensor, onto: torch.Tensor) -> torch.Tensor:
    """The part of each frame's difference (B, F, C, h, w) that is parallel to that frame of `onto`."""
    dims = (-3, -2, -1)
    length = onto.square().sum(dims, keepdim=True).clamp(min=torch.finfo(onto.dtype).tiny)
    return (difference * onto).sum(dims, keepdim=True) / length * onto
