"""Latents of an autoencoder: their scale, how many images are encoded at once, and images there and back."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

ENCODED_TOGETHER = 8  # images, which bounds the memory of the autoencoder
FRAMES_BESIDE = "_frames_beside"  # in the config of an autoencoder of videos: see `frames_to_decode`


@dataclass(frozen=True)
class LatentScale:
    """Brings the latents (…, C, h, w) of one side, after the autoencoder's scaling factor, to mean 0 and deviation 1.

    Depth images have wider latents than photographs; without this the same noise level would leave more signal in them.

    Attributes:
        mean, std: One for all channels, or one for each.
    """

    mean: float | tuple[float, ...] = 0.0
    std: float | tuple[float, ...] = 1.0

    @classmethod
    def measure(cls, latents: torch.Tensor) -> "LatentScale":
        """The scale under which `latents` have mean 0 and deviation 1."""
        return cls(mean=float(latents.mean()), std=float(latents.std()))

    @classmethod
    def measure_channels(cls, latents: torch.Tensor) -> "LatentScale":
        """The scale under which each channel of `latents` has mean 0 and deviation 1."""
        channels = latents.movedim(-3, 0).flatten(1)
        return cls(mean=tuple(channels.mean(dim=1).tolist()), std=tuple(channels.std(dim=1).tolist()))

    @classmethod
    def read(cls, scale: dict) -> "LatentScale":
        """What `dataclasses.asdict` made of it, out of JSON, which knows lists alone."""
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in scale.items()})

    def normalize(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents as the network sees them."""
        return (latents - self._spread(self.mean, latents)) / self._spread(self.std, latents)

    def denormalize(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents as the autoencoder knows them."""
        return latents * self._spread(self.std, latents) + self._spread(self.mean, latents)

    def _spread(self, values: float | tuple[float, ...], like: torch.Tensor) -> torch.Tensor:
        return torch.tensor(values, dtype=like.dtype, device=like.device).view(-1, 1, 1)


def side_factor(config: Mapping) -> int:
    """By what the levels of a UNet or an autoencoder divide a side of what they read, from its configuration."""
    return 2 ** (len(config["block_out_channels"]) - 1)


def side_multiple(unet_config: Mapping, vae_config: Mapping) -> int:
    """What divides the sides of a base's images: the factor of the autoencoder times that of the UNet."""
    return side_factor(vae_config) * side_factor(unet_config)


def frames_to_decode(vae: nn.Module, start: int, end: int, num_frames: int) -> tuple[torch.Tensor, slice]:
    """Numbers of the frames that frames `start` to `end - 1` of a video are decoded with, and where these are in them.

    A decoder that looks at neighbouring frames sees zeros beyond a chunk, and still things change there. An autoencoder
    whose config has `_frames_beside` gets so many frames on either side, at the ends of the video its first or last
    again. Others get none: released ones have learned with those zeros.
    """
    beside = vae.config.get(FRAMES_BESIDE, 0)
    numbers = torch.arange(start - beside, end + beside).clamp(0, num_frames - 1)
    return numbers, slice(beside, beside + end - start)


@torch.no_grad()
def encode_mode(vae: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """Mode of the posterior, unscaled (B, C, h, w) in the autoencoder's dtype, of pixels (B, 3, H, W) in [-1, 1]."""
    parts = pixels.to(vae.dtype).split(ENCODED_TOGETHER)
    return torch.cat([vae.encode(part).latent_dist.mode() for part in parts])


@torch.no_grad()
def reconstruct(vae: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """Encode (mode of the posterior) and decode pixels (B, 3, H, W) in [-1, 1]; float32, clipped, on the CPU."""
    posterior = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist
    return vae.decode(posterior.mode()).sample.float().clamp(-1, 1).cpu()
