"""What training and sampling of a pair share."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

GIVEN_TIMESTEP = 0  # of a side that is clean


@dataclass(frozen=True)
class LatentScale:
    """Brings the latents (…, C, h, w) of one side, already multiplied by the autoencoder's scaling factor, to mean 0 and deviation 1.

    Depth pictures have wider latents than images; without this the same noise level would leave more signal in them.

    Attributes:
        mean, std: Of all channels together, or one for each.
    """

    mean: float | tuple[float, ...] = 0.0
    std: float | tuple[float, ...] = 1.0

    @classmethod
    def measure(cls, latents: torch.Tensor) -> "LatentScale":
        """The scale under which `latents` have mean 0 and deviation 1."""
        return cls(mean=float(latents.mean()), std=float(latents.std()))

    @classmethod
    def measure_channels(cls, latents: torch.Tensor) -> "LatentScale":
        """The scale under which each channel of `latents` has."""
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


def with_trigger(trigger: str, caption: str) -> str:
    """The caption of a condition: its trigger word leads."""
    return ", ".join(filter(None, [trigger, caption]))


def draw_direction(args) -> str:
    """Which sides of a whole batch read the other: one way alone in `args.one_way_share` of the draws."""
    draw = float(torch.rand(()))
    if draw >= args.one_way_share:
        return "both"
    return "x_reads_y" if draw < args.one_way_share / 2 else "y_reads_x"


def draw_given(B: int, direction: str, x_share: float, y_share: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Whether x and y of each pair are given, bool (B,); never both, and with one direction the side that is read."""
    draw = torch.rand(B)
    if direction != "both":
        return torch.full((B,), direction == "y_reads_x"), torch.full((B,), direction == "x_reads_y")
    return draw < x_share, draw >= 1 - y_share


def check_share_arguments(args, names: Sequence[str], groups: Sequence[Sequence[str]]) -> None:
    """Raises ValueError for a share outside of 0 to 1, and for a group of them that adds up to more than 1."""
    for name in names:
        if not 0 <= getattr(args, name) <= 1:
            raise ValueError(f"--{name} is {getattr(args, name)}: a share lies between 0 and 1.")
    for group in groups:
        if (total := sum(getattr(args, name) for name in group)) > 1 + 1e-6:
            raise ValueError(
                f"{', '.join(f'--{name}' for name in group)} add up to {total:g}: lower them to 1 at most."
            )
