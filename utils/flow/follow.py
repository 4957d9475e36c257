"""Two images of a video's ends carried to the frames between them along the video's own flow.

What was changed in the first and in the last frame of a clip so appears in all of them: each frame looks up both images
where the clip's flow says that its points are there.
"""

import torch

from utils.flow.consistency import SAME_COLOR
from utils.flow.interpolate import LEAST
from utils.flow.warp import compose, leaves_image, warp


def follow_ends(
    source: torch.Tensor, first: torch.Tensor, last: torch.Tensor, flow: torch.Tensor, back: torch.Tensor
) -> torch.Tensor:
    """Frames (F, C, H, W) that begin with `first` and end with `last`, (C, H, W), and move as the source does.

    A place counts in the image that shows it: where its colour in that end of the source is the frame's own. Of both
    the nearer one weighs more; a place that neither shows is a blend.

    Args:
        source: (F, 3, H, W) in [-1, 1].
        flow, back: Its flow (F - 1, 2, H, W) from each frame to the next, on the pixels of the earlier one, and back,
            on those of the later one.
    """
    F = len(source)
    to_first, to_last = ways_to_ends(flow, back)
    time = torch.linspace(0, 1, F).view(-1, 1, 1, 1).to(source)
    weights = [
        near * seen_in(source, end, way)[:, None].to(source).clamp(min=LEAST)
        for near, end, way in ((1 - time, source[0], to_first), (time, source[-1], to_last))
    ]
    images = [warp(image.expand(F, -1, -1, -1), way) for image, way in ((first, to_first), (last, to_last))]
    total = weights[0] + weights[1]
    frames = (weights[0] * images[0] + weights[1] * images[1]) / total
    return torch.cat([first[None], frames[1:-1], last[None]])


def ways_to_ends(flow: torch.Tensor, back: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Flow (F, 2, H, W) from each frame to the first one and to the last one; arguments as of `follow_ends`."""
    zero = torch.zeros_like(flow[:1])
    to_first, to_last = [zero], [zero]
    for step in back.split(1):
        to_first.append(compose(step, to_first[-1]))
    for step in flow.flip(0).split(1):
        to_last.append(compose(step, to_last[-1]))
    return torch.cat(to_first), torch.cat(to_last[::-1])


def seen_in(source: torch.Tensor, end: torch.Tensor, way: torch.Tensor) -> torch.Tensor:
    """Which pixels of frames (F, 3, H, W) are seen in an end (3, H, W) where the flow there sends them: (F, H, W)."""
    found = warp(end.expand_as(source), way)
    return ((found - source).abs().mean(dim=1) < SAME_COLOR) & ~leaves_image(way)
