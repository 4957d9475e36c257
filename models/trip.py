"""TRIP: image noise prior and temporal residual learning (Zhang et al., CVPR 2024, arXiv 2403.17005).

The image noise prior is the noise that would be in frame i if frame i were the first frame. With the first frame's
clean latents z_0^1, and noisy latents z_t = √ᾱ z_0 + √(1 - ᾱ) ε of DDPM or x_t = x_0 + σ n of EDM:

    DDPM    ε^{i→1} = (z_t^i - √ᾱ z_0^1) / √(1 - ᾱ)
    EDM     n^{i→1} = (x_t^i - z_0^1) / σ                 the same number where x_t = z_t / √ᾱ and σ = √(1 - ᾱ) / √ᾱ

The video UNet predicts a residual noise Δε, and the two are fused, with λ_i falling from 1 at the first frame to 0 at
the last:

    linear    λ_i ε^{i→1} + (1 - λ_i) Δε_i                in clean latents: λ_i z_0^1 + (1 - λ_i) D_i
    fusion    that, and what the temporal noise fusion adds, which is zero at the start

On the first frame λ is 1 and nothing is added: the prediction there is the true noise. Both are fused as v = √ᾱ ε -
√(1 - ᾱ) z_0 = (ε - √(1 - ᾱ) z_t) / √ᾱ. That is affine in ε, so that the linear form is the same in either; and v, other
than ε, still tells frames apart where the noise hides them.
"""

import math
from dataclasses import dataclass

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from torch import nn
from torch.nn import functional

from utils.diffusion.edm import spread


@dataclass(frozen=True)
class Form:
    """How a video UNet is conditioned on the first frame.

    Attributes:
        place: Where the clean first frame stands in time: "front", "end", or None for nowhere.
        channels: Whether it is also in the channels of each frame, as in Stable Video Diffusion; a UNet without such
            channels has none.
        prior: Whether the prediction is fused with the image noise prior.
        learned: Whether the temporal noise fusion does that, and not λ alone.
    """

    place: str | None
    channels: bool = True
    prior: bool = False
    learned: bool = False


FORMS = {  # by the paper's names: TRIP_C, TRIP_TE, both ways at once, TRIP-, TRIP_W, TRIP
    "channels": Form(None),
    "end": Form("end"),
    "front": Form("front"),
    "residual": Form("front", channels=False),
    "linear": Form("front", prior=True),
    "fusion": Form("front", prior=True, learned=True),
}


def noise_prior(x_t: torch.Tensor, first: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """n^{i→1} of EDM latents.

    Args:
        x_t: Noisy latents (B, F, C, h, w).
        first: Clean latents of the first frame (B, 1, C, h, w).
        sigma: Noise levels (B,), above 0.
    """
    return (x_t - first) / spread(sigma, x_t)


def noise_prior_ddpm(z_t: torch.Tensor, first: torch.Tensor, alpha_bar: torch.Tensor) -> torch.Tensor:
    """ε^{i→1} of DDPM latents z_t (B, F, C, h, w); alpha_bar (B,), below 1: of the timestep of each sample."""
    alpha_bar = spread(alpha_bar, z_t)
    return (z_t - alpha_bar.sqrt() * first) / (1 - alpha_bar).sqrt()


def noise_to_v(noise: torch.Tensor, z_t: torch.Tensor, alpha_bar: torch.Tensor) -> torch.Tensor:
    """v of a noise ε and DDPM latents z_t (B, F, C, h, w) at alpha_bar (B,)."""
    alpha_bar = spread(alpha_bar, z_t)
    return (noise - (1 - alpha_bar).sqrt() * z_t) / alpha_bar.sqrt()


def v_to_noise(v: torch.Tensor, z_t: torch.Tensor, alpha_bar: torch.Tensor) -> torch.Tensor:
    """The inverse of `noise_to_v`."""
    alpha_bar = spread(alpha_bar, z_t)
    return alpha_bar.sqrt() * v + (1 - alpha_bar).sqrt() * z_t


def frame_weights(num_frames: int) -> torch.Tensor:
    """λ (1, F, 1, 1, 1), falling linearly from 1 at the first frame to 0 at the last; 1 of a single frame."""
    return torch.linspace(1, 0, num_frames)[None, :, None, None, None]


def fuse_linearly(prior: torch.Tensor, residual: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """λ prior + (1 - λ) residual, both (B, F, C, h, w), as noises or as v; weights: λ."""
    weights = weights.to(residual)
    return weights * prior + (1 - weights) * residual


class TripFusion(ModelMixin, ConfigMixin):
    """From the prior and the UNet's prediction to the prediction of a form.

    Args:
        form: A key of `FORMS`. Only "fusion" has weights.
        channels: C of latents.
        width: D of the tokens of the temporal noise fusion.
        heads: Of its attention; they divide D.
    """

    @register_to_config
    def __init__(self, form: str = "fusion", channels: int = 4, width: int = 64, heads: int = 4):
        super().__init__()
        if form not in FORMS:
            raise ValueError(f"There is no form {form!r} of TRIP: choose one of {', '.join(FORMS)}.")
        if self.form.learned:
            self.temporal = TemporalNoiseFusion(channels, width, heads)
        self.register_buffer("anchor", torch.zeros(1))  # type and place of a form without weights

    @property
    def form(self) -> Form:
        return FORMS[self.config.form]

    def forward(self, prior: torch.Tensor, residual: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """The fused v (B, F, C, h, w); prior and residual: as v; sigma: noise levels (B,) of EDM, √(1 - ᾱ) / √ᾱ."""
        if not self.form.prior:
            return residual
        fused = fuse_linearly(prior, residual, frame_weights(residual.shape[1]))
        if not self.form.learned:
            return fused
        added = self.temporal(*(v.to(self.anchor.dtype) for v in (prior, residual)), sigma).to(fused)
        return torch.cat([fused[:, :1], fused[:, 1:] + added[:, 1:]], dim=1)


class TemporalNoiseFusion(nn.Module):
    """TNF: what is added to the linear form, by attention over frames at each latent pixel.

    The residual goes through an adaptive layer norm by the noise level and self-attention, and then reads prior and
    residual. Their values are not normalised: the prior is as far from the truth as frame i from the first one, over σ,
    and the correction has to grow with it.
    """

    def __init__(self, channels: int, width: int, heads: int):
        super().__init__()
        self.embed_prior, self.embed_residual = (nn.Conv2d(channels, width, 3, padding=1) for _ in range(2))
        self.level = nn.Sequential(
            Timesteps(width, True, 0), TimestepEmbedding(width, width), nn.SiLU(), nn.Linear(width, 2 * width)
        )
        self.adaptive_norm, self.query_norm, self.key_norm = (
            nn.LayerNorm(width, elementwise_affine=affine) for affine in (False, True, True)
        )
        self.attend_frames, self.attend_sources = (FrameAttention(width, heads) for _ in range(2))
        self.source = nn.Parameter(0.1 * torch.randn(2, 1, width))  # tells prior and residual apart
        self.out = nn.Linear(width, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, prior: torch.Tensor, residual: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """(B, F, C, h, w) like prior and residual; sigma: (B,)."""
        B, F, C, h, w = residual.shape
        own = self._tokens(residual, self.embed_residual)  # (B, h w, F, D)
        sources = torch.stack([self._tokens(prior, self.embed_prior), own], dim=2)  # (B, h w, 2, F, D)
        place = frame_positions(F, own.shape[-1]).to(own)
        query = self._normalize(own, sigma) + place
        hidden = own + self.attend_frames(query, query, query)
        keys = (self.key_norm(sources) + place + self.source).flatten(2, 3)  # (B, h w, 2 F, D)
        hidden = hidden + self.attend_sources(self.query_norm(hidden) + place, keys, sources.flatten(2, 3))
        return self.out(hidden).permute(0, 2, 3, 1).reshape(B, F, C, h, w)

    def _tokens(self, frames: torch.Tensor, embed: nn.Conv2d) -> torch.Tensor:
        tokens = embed(frames.flatten(0, 1)).flatten(2).unflatten(0, frames.shape[:2])  # (B, F, D, h w)
        return tokens.permute(0, 3, 1, 2)

    def _normalize(self, tokens: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """Layer norm with the scale and shift of the noise level."""
        level = self.level[0](sigma.float().clamp(1e-3, 1e4).log()).to(tokens)
        scale, shift = self.level[1:](level)[:, None, None].chunk(2, dim=-1)
        return self.adaptive_norm(tokens) * (1 + scale) + shift


class FrameAttention(nn.Module):
    """Attention over the tokens (…, L, D) of each place."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        if width % heads:
            raise ValueError(f"{heads} heads do not divide a width of {width}: choose a width that is a multiple.")
        self.heads = heads
        self.to_q, self.to_k, self.to_v, self.to_out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            project(tokens).flatten(0, -3).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project, tokens in ((self.to_q, query), (self.to_k, key), (self.to_v, value))
        )  # (B h w, heads, L, D / heads)
        read = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.to_out(read).view_as(query)


def frame_positions(num_frames: int, width: int) -> torch.Tensor:
    """Sinusoidal positions (F, D) of frames."""
    rates = torch.exp(-math.log(10_000) * torch.arange(0, width, 2) / width)
    angles = torch.arange(num_frames)[:, None] * rates  # (F, D / 2)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :width]
