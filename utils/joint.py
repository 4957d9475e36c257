"""What training and sampling of a pair share."""

from dataclasses import dataclass

import torch

GIVEN_TIMESTEP = 0  # of a side that is clean


@dataclass(frozen=True)
class LatentScale:
    """Brings the latents of one side, already multiplied by the autoencoder's scaling factor, to mean 0 and deviation 1.

    Depth pictures have wider latents than images; without this the same noise level would leave more signal in them.
    """

    mean: float = 0.0
    std: float = 1.0

    @classmethod
    def measure(cls, latents: torch.Tensor) -> "LatentScale":
        """The scale under which `latents` have mean 0 and deviation 1."""
        return cls(mean=float(latents.mean()), std=float(latents.std()))

    def normalize(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents as the network sees them."""
        return (latents - self.mean) / self.std

    def denormalize(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents as the autoencoder knows them."""
        return latents * self.std + self.mean


def with_trigger(trigger: str, caption: str) -> str:
    """The caption of a condition: its trigger word leads."""
    return ", ".join(filter(None, [trigger, caption]))
