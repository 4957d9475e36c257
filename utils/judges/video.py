"""A small network that looks at a clip of the procedural world and says what happens in it.

What it knows in `NUM_FEATURES` numbers before it says anything serves as the features of a Fréchet distance between sets of clips.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import nn

from utils.judges.networks import Block
from utils.scenes import COLORS

NUM_FEATURES = 32
CAMERAS = ("still", "pan", "truck", "dolly")
DAMAGES = ("none", "blur", "ghost", "jumble", "wobble")
FACTS = {  # name: how many numbers
    "camera": len(CAMERAS),  # logits
    "camera_way": len(CAMERAS) - 1,  # signed, 1 is as far as a camera goes
    "motion": 1,  # log(1 + mean length of the flow in pixels per frame)
    "direction": 2,  # mean flow in pixels per frame, x then y
    "speed": 1,  # log(1 + mean speed of the objects in pixels per frame)
    "count": 3,  # logits of 1 to 3 objects
    "colors": len(COLORS),  # logits of each one being there
    "damage": len(DAMAGES),  # logits
}


class VideoJudge(nn.Module):
    """Clips (B, F, 3, H, W) in [-1, 1] -> the facts by name, (B, size) each, and "flow" (B, F - 1, 2, H/8, W/8) in pixels per frame.

    H and W are multiples of 32, F is at least 2; made for 8 frames of 64x64.
    """

    def __init__(self, channels: tuple[int, int, int] = (16, 32, 64)):
        super().__init__()
        self.config = {"channels": list(channels)}
        c0, c1, c2 = channels
        self.pairs = nn.Sequential(
            nn.Conv2d(6, c0, 5, stride=2, padding=2),
            nn.SiLU(),
            nn.Conv2d(c0, c1, 4, stride=2, padding=1),
            Block(c1),
            nn.Conv2d(c1, c2, 4, stride=2, padding=1),
            Block(c2),
            nn.SiLU(),
        )
        self.flow = nn.Conv2d(c2, 2, 1)
        self.places = nn.Conv2d(c2, c1, 1)
        self.hidden = nn.Linear(2 * 16 * c1, 2 * c2)
        self.last = nn.Linear(2 * c2, NUM_FEATURES)
        self.register_buffer("mean", torch.zeros(NUM_FEATURES))
        self.register_buffer("deviation", torch.ones(NUM_FEATURES))
        self.heads = nn.Linear(NUM_FEATURES, sum(FACTS.values()))

    def forward(self, video: torch.Tensor) -> dict[str, torch.Tensor]:
        maps = self.maps(video)
        facts = self.heads(F.silu(self.summary(maps))).split(list(FACTS.values()), dim=1)
        return dict(zip(FACTS, facts, strict=True)) | {
            "flow": self.flow(maps.flatten(0, 1)).unflatten(0, maps.shape[:2])
        }

    def features(self, video: torch.Tensor) -> torch.Tensor:
        """(B, `NUM_FEATURES`), each of mean 0 and deviation 1 over the clips that `calibrate` has seen."""
        return (self.summary(self.maps(video)) - self.mean) / self.deviation

    @torch.no_grad()
    def calibrate(self, batches: Iterable[torch.Tensor]) -> None:
        """Bring all features to one scale over batches of clips, so that none outweighs the others in a distance."""
        found = torch.cat([self.summary(self.maps(video)) for video in batches])
        self.mean.copy_(found.mean(dim=0))
        self.deviation.copy_(found.std(dim=0))

    def maps(self, video: torch.Tensor) -> torch.Tensor:
        """What is seen in two neighbouring frames, (B, F - 1, C, H/8, W/8)."""
        pairs = torch.cat([video[:, :-1], video[:, 1:]], dim=2)  # (B, F - 1, 6, H, W)
        return self.pairs(pairs.flatten(0, 1)).unflatten(0, pairs.shape[:2])

    def summary(self, maps: torch.Tensor) -> torch.Tensor:
        """Mean and deviation over time at 4x4 places, brought to features."""
        B, T = maps.shape[:2]
        places = F.adaptive_avg_pool2d(self.places(maps.flatten(0, 1)), 4).view(B, T, -1)
        over_time = torch.cat([places.mean(dim=1), places.var(dim=1, correction=0).add(1e-6).sqrt()], dim=1)
        return self.last(F.silu(self.hidden(over_time)))
