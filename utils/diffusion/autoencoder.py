"""Pictures through an autoencoder."""

import torch
from torch import nn


@torch.no_grad()
def reconstruct(vae: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """Encode (mode of the posterior) and decode pixels (B, 3, H, W) in [-1, 1]; float32, clipped, on the CPU."""
    posterior = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist
    return vae.decode(posterior.mode()).sample.float().clamp(-1, 1).cpu()
