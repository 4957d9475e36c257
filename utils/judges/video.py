"""A small network that estimates the facts of a clip of the procedural world, such as its camera's move and its motion.

Its input is each frame with the flow to the next, by DIS, and the residual of the next frame warped back. Its last
`NUM_FEATURES` numbers before the facts are the features of a Fréchet distance between sets of clips.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import nn

from utils.flow import flow_estimator
from utils.flow.warp import warp
from utils.judges.networks import Block
from utils.scenes import COLORS

NUM_FEATURES = 32
FLOW_UNIT = 4.0  # pixels
CAMERAS = ("still", "pan", "truck", "dolly")
DAMAGES = ("none", "blur", "ghost", "jumble", "wobble")
FACTS = {  # name: how many numbers
    "camera": len(CAMERAS),  # logits
    "camera_way": len(CAMERAS) - 1,  # signed; 1 is the largest move of a camera
    "motion": 1,  # log(1 + mean length of the flow in pixels per frame)
    "direction": 2,  # mean flow in pixels per frame, x then y
    "speed": 1,  # log(1 + mean speed of the objects in pixels per frame)
    "count": 3,  # logits of 1 to 3 objects
    "colors": len(COLORS),  # logits of each one being there
    "damage": len(DAMAGES),  # logits
}


class VideoJudge(nn.Module):
    """Clips (B, F, 3, H, W) in [-1, 1] -> the facts by name, (B, size) each.

    H and W are multiples of 32, F is at least 2; made for 8 frames of 64x64.
    """

    def __init__(self, channels: tuple[int, int, int] = (16, 32, 64)):
        super().__init__()
        self.config = {"channels": list(channels)}
        c0, c1, c2 = channels
        self.pairs = nn.Sequential(
            nn.Conv2d(3 + 2 + 3, c0, 5, stride=2, padding=2),
            nn.SiLU(),
            nn.Conv2d(c0, c1, 4, stride=2, padding=1),
            Block(c1),
            nn.Conv2d(c1, c2, 4, stride=2, padding=1),
            Block(c2),
            nn.SiLU(),
        )
        self.places = nn.Conv2d(c2, c1, 1)
        self.hidden = nn.Linear(2 * 16 * c1, 2 * c2)
        self.last = nn.Linear(2 * c2, NUM_FEATURES)
        self.register_buffer("mean", torch.zeros(NUM_FEATURES))
        self.register_buffer("deviation", torch.ones(NUM_FEATURES))
        self.heads = nn.Linear(NUM_FEATURES, sum(FACTS.values()))

    def forward(self, video: torch.Tensor) -> dict[str, torch.Tensor]:
        facts = self.heads(F.silu(self.summary(video))).split(list(FACTS.values()), dim=1)
        return dict(zip(FACTS, facts, strict=True))

    def features(self, video: torch.Tensor) -> torch.Tensor:
        """(B, `NUM_FEATURES`), each of mean 0 and deviation 1 over the clips of `calibrate`."""
        return (self.summary(video) - self.mean) / self.deviation

    @torch.no_grad()
    def calibrate(self, batches: Iterable[torch.Tensor]) -> None:
        """Bring features to mean 0 and deviation 1 over batches of clips, so that none outweighs others."""
        found = torch.cat([self.summary(video) for video in batches])
        self.mean.copy_(found.mean(dim=0))
        self.deviation.copy_(found.std(dim=0))

    def summary(self, video: torch.Tensor) -> torch.Tensor:
        """Features of the mean and deviation over time at 4x4 places."""
        maps = self.places(self.pairs(look(video).flatten(0, 1)))  # (B (F - 1), C, H/8, W/8)
        places = F.adaptive_avg_pool2d(maps, 4).view(len(video), video.shape[1] - 1, -1)
        over_time = torch.cat([places.mean(dim=1), places.var(dim=1, correction=0).add(1e-6).sqrt()], dim=1)
        return self.last(F.silu(self.hidden(over_time)))


def look(video: torch.Tensor) -> torch.Tensor:
    """Each frame but the last, its flow to the next, and the residual of the next warped back: (B, F - 1, 8, H, W)."""
    H, W = video.shape[-2:]
    estimate = flow_estimator("dis", preset="fast", inference_size=(2 * H, 2 * W))
    flow = torch.stack([estimate(clip) for clip in video])
    now, following = video[:, :-1], video[:, 1:]
    returned = warp(following.flatten(0, 1), flow.flatten(0, 1)).view_as(now)
    return torch.cat([now, flow / FLOW_UNIT, returned - now], dim=2)
