"""How far a long video drifts from its beginning, and whether its seams show.

Videos are pixels (F, 3, H, W) in [-1, 1]; `starts` are the first frames of their segments, the first one 0.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch.nn import functional

from utils.metrics.video import Encoder


def segments_of(video: torch.Tensor, starts: Sequence[int]) -> list[torch.Tensor]:
    """The frames of each segment.

    Raises:
        ValueError: The starts do not ascend from 0 inside the video.
    """
    borders = [*starts, len(video)]
    if not starts or starts[0] != 0 or any(first >= second for first, second in pairwise(borders)):
        raise ValueError(f"Segments that start at {list(starts)} do not fill a video of {len(video)} frames in order.")
    return [video[first:second] for first, second in pairwise(borders)]


def color_drift(video: torch.Tensor, starts: Sequence[int]) -> list[float]:
    """For each segment, the distance of its colours from those of the first, whose own is 0.

    Root mean square over the differences of the mean and the deviation of each of the three channels, in units of the
    pixels.
    """
    found = [segment.transpose(0, 1).flatten(1).float() for segment in segments_of(video, starts)]
    statistics = torch.stack([torch.cat([pixels.mean(1), pixels.std(1)]) for pixels in found])
    return (statistics - statistics[0]).square().mean(dim=1).sqrt().tolist()


@torch.no_grad()
def content_drift(video: torch.Tensor, starts: Sequence[int], encoder: Encoder) -> list[float]:
    """For each segment, the mean cosine between embeddings of its frames and of the video's first, -1 to 1."""
    first = encoder(video[:1])
    return [functional.cosine_similarity(encoder(s), first).mean().item() for s in segments_of(video, starts)]


def motion_drift(flow: torch.Tensor, starts: Sequence[int]) -> list[float]:
    """For each segment, the mean length of the flow into its frames, in pixels.

    flow: (F - 1, 2, H, W) between neighbouring frames of the video.
    """
    lengths = flow.norm(dim=1).mean(dim=(1, 2))
    into = torch.cat([lengths[:1], lengths])  # none leads into the first frame, whose share the second one's takes
    return [segment.mean().item() for segment in segments_of(into, starts)]


def seam_change(video: torch.Tensor, starts: Sequence[int], window: int = 0, order: int = 1) -> tuple[float, float]:
    """Mean absolute change of pixels across the seams, and elsewhere; a seam shows where the first is larger.

    Args:
        window: Frames before each start, such as those in which the earlier segment fades into the later one: changes
            to any of them count as across. Videos compare only at the same window.
        order: 1 for the difference of neighbouring frames, which a jump enlarges; 2 for the difference of differences,
            which flicker and a break of the motion enlarge too.

    Raises:
        ValueError: There is no seam, or nothing else.
    """
    segments_of(video, starts)
    change = torch.diff(video.float(), n=order, dim=0).abs().mean(dim=(1, 2, 3))
    seams = torch.tensor(starts[1:])
    first = torch.arange(len(change))[:, None]  # of the frames of a change, the last being first + order
    across = ((first < seams) & (seams - window <= first + order)).any(dim=1)
    if not across.any() or across.all():
        raise ValueError(
            f"Starts {list(starts)} leave no change across seams, or none elsewhere, in {len(video)} frames."
        )
    return change[across].mean().item(), change[~across].mean().item()
