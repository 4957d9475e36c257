"""Images through an autoencoder."""

import torch
from torch import nn

ENCODED_TOGETHER = 8  # images, for the autoencoder's memory


@torch.no_grad()
def encode_mode(vae: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """Mode of the posterior, latents (B, C, h, w) that are not scaled, of pixels (B, 3, H, W) in [-1, 1]; in the autoencoder's type."""
    parts = pixels.to(vae.dtype).split(ENCODED_TOGETHER)
    return torch.cat([vae.encode(part).latent_dist.mode() for part in parts])


@torch.no_grad()
def reconstruct(vae: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """Encode (mode of the posterior) and decode pixels (B, 3, H, W) in [-1, 1]; float32, clipped, on the CPU."""
    posterior = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist
    return vae.decode(posterior.mode()).sample.float().clamp(-1, 1).cpu()
