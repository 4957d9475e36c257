"""Clips with a few tracked points, for networks that are conditioned on them.

The points are the exact tracks of a data set that has them. In any other they are random points that its flow
carries along, as long as they are visible.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from utils.commands.settings import Settings, about
from utils.data.extras import Extra
from utils.flow.consistency import visible_in_next
from utils.metrics.trajectory import follow_flow

FOLLOWED = 64  # points that are carried along by flow
MOVING_SHARE_OF_SIDE = 1 / 32  # of the shorter side: who comes that far from the start moves


@dataclass(frozen=True)
class PointChoice(Settings):
    """Which points of a clip a network is conditioned on."""

    num_points: int = field(
        default=3,
        metadata=about("largest number of points of a sample; each number from 1 on is equally likely", int, low=1),
    )
    num_other_points: int = field(
        default=16,
        metadata=about(
            "largest number of further points: static ones, or any where the camera moves (see other_share)",
            int,
            low=0,
        ),
    )
    moving_share: float = field(
        default=0.8,
        metadata=about(
            "probability that one of the num_points is drawn from those that move, as long as there are any; "
            "otherwise from all",
            low=0,
            high=1,
        ),
    )
    other_share: float = field(default=0.5, metadata=about("share of samples that have further points", low=0, high=1))

    def draw(self, tracks: torch.Tensor, visible: torch.Tensor, shorter_side: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Points (F, K, 2), and bool (F, K), where they are shown; K is the largest number, the rest is never shown.

        Args:
            tracks: (F, N, 2), pixels, x then y.
            visible: bool (F, N). Only points are taken that are seen in frame 0 and in half of the frames.
            shorter_side: Of the clip in pixels.
        """
        known = visible[0] & (visible.float().mean(dim=0) >= 0.5)
        moves = (tracks - tracks[:1]).norm(dim=-1).amax(dim=0) >= shorter_side * MOVING_SHARE_OF_SIDE
        count = int(torch.randint(1, self.num_points + 1, ()))
        wanted = int((torch.rand(count) < self.moving_share).sum())
        dragged = _shuffle(known & moves)[:wanted]
        dragged = torch.cat([dragged, _shuffle(_without(known, dragged))[: count - len(dragged)]])
        left = _without(known, dragged)
        others = left & ~moves if (left & ~moves).any() else left
        others = _shuffle(others)[: self._count_others()]
        return self._pad(tracks, visible, torch.cat([dragged, others]))

    def _count_others(self) -> int:
        if self.num_other_points == 0 or torch.rand(()) >= self.other_share:
            return 0
        return int(torch.randint(1, self.num_other_points + 1, ()))

    def _pad(self, tracks, visible, chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        F, K = len(tracks), self.num_points + self.num_other_points
        points, shown = torch.zeros(F, K, 2), torch.zeros(F, K, dtype=torch.bool)
        points[:, : len(chosen)], shown[:, : len(chosen)] = tracks[:, chosen], visible[:, chosen]
        return points, shown


class Points(Extra):
    """`points` (F, K, 2), pixels, and `shown`, bool (F, K), of tracks that the clip has or that its flow gives.

    Args:
        choice: Which of them are taken.
        source: "tracks" or "flow": the annotation that is followed.
    """

    name = "tracks"
    frames = False
    steady = False  # a whole clip is followed frame by frame before a stretch is taken

    def __init__(self, choice: PointChoice, source: str = "tracks"):
        self.choice, self.reads = choice, (source,)

    def __call__(self, clip: dict) -> dict[str, torch.Tensor]:
        size = (clip["image"] if "image" in clip else clip["pixel_values"]).shape[-2:]
        points, shown = self.choice.draw(*find_tracks(clip), min(size))
        return {"points": points, "shown": shown}

    def keep(self, clip: dict, vae: nn.Module) -> dict[str, np.ndarray]:
        return dict(zip(("tracks", "visible"), map(np.asarray, find_tracks(clip)), strict=True))


def find_tracks(clip: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """Tracks (F, N, 2) and visible, bool (F, N): those of the clip, or random points that its flow carries along."""
    if "tracks" in clip:
        return clip["tracks"], clip["visible"]
    frames, flow = clip["pixel_values"], clip["flow"]
    H, W = flow.shape[-2:]
    tracks = follow_flow(torch.rand(FOLLOWED, 2) * torch.tensor([W - 1, H - 1]), flow)
    x, y = tracks[:-1].round().long().unbind(-1)
    seen = visible_in_next(frames, flow)[torch.arange(len(flow))[:, None], y.clamp(0, H - 1), x.clamp(0, W - 1)]
    return tracks, torch.cat([torch.ones(1, FOLLOWED, dtype=torch.bool), seen.cumprod(dim=0).bool()])


def _shuffle(chosen: torch.Tensor) -> torch.Tensor:
    """Numbers of the points where bool (N,) is true, in random order."""
    numbers = chosen.nonzero().flatten()
    return numbers[torch.randperm(len(numbers))]


def _without(known: torch.Tensor, taken: torch.Tensor) -> torch.Tensor:
    left = known.clone()
    left[taken] = False
    return left
