"""Faults of generated clips, made on purpose, so that the video judge learns to see them.

Clips (F, 3, H, W) in [-1, 1]; the first frame stays as it is, as it does where a clip is made from it. Random numbers
are torch's.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from utils.judges.video import DAMAGES


def damage(video: torch.Tensor, kind: str) -> torch.Tensor:
    """A clip with a fault of one of `DAMAGES`, of random strength."""
    return DAMAGED[kind](video)


def blur(video: torch.Tensor) -> torch.Tensor:
    """Details fade over the frames."""
    soft = F.avg_pool2d(F.pad(video, (2, 2, 2, 2), mode="replicate"), 5, stride=1)
    share = _growing(len(video)) * (0.5 + 0.5 * torch.rand(()))
    return torch.lerp(video, soft, share)


def ghost(video: torch.Tensor) -> torch.Tensor:
    """The frame of one or two steps ago shines through."""
    steps = int(torch.randint(1, 3, ()))
    before = torch.cat([video[:1].expand(steps, -1, -1, -1), video[:-steps]])
    return torch.lerp(video, before, 0.3 + 0.3 * torch.rand(()).item())


def jumble(video: torch.Tensor) -> torch.Tensor:
    """All frames but the first in another order."""
    order = torch.randperm(len(video) - 1) + 1
    return torch.cat([video[:1], video[order]])


def wobble(video: torch.Tensor) -> torch.Tensor:
    """Shapes bend, in each frame in another way, more and more."""
    frames, _, H, W = video.shape
    bend = F.interpolate(torch.randn(frames, 2, 6, 6), (H, W), mode="bicubic", align_corners=True)
    pixels = _growing(frames) * (1 + 2 * torch.rand(()))
    grid = F.affine_grid(torch.eye(2, 3).expand(frames, 2, 3), [frames, 3, H, W], align_corners=False)
    grid = grid + (2 / W * pixels * bend).permute(0, 2, 3, 1)
    return F.grid_sample(video, grid, padding_mode="border", align_corners=False)


def _growing(frames: int) -> torch.Tensor:
    """From 0 in the first frame to 1 in the last, (F, 1, 1, 1)."""
    return torch.linspace(0, 1, frames)[:, None, None, None]


DAMAGED: dict[str, Callable[[torch.Tensor], torch.Tensor]] = dict(
    zip(DAMAGES, (lambda video: video, blur, ghost, jumble, wobble), strict=True)
)
