"""Which frames of a video are edited; the others are filled in between them."""

import math

import torch

from utils.messages.words import count

WAYS = ("interval", "motion")
STILL = 0.01  # pixels that a frame counts as moved by at least, so that a still video has keyframes too


def check_interval(num_frames: int, interval: int, name: str = "The video") -> None:
    """Raises ValueError for a video without room for two keyframes, an interval apart."""
    if num_frames < 2:
        raise ValueError(
            f"{name} has one frame: pass a video, or edit an image with"
            " run_depth_image.py --mode coarse --image IMAGE --strength 0.6 --prompt TEXT."
        )
    if num_frames <= interval:
        raise ValueError(
            f"{name} has {count(num_frames, 'frame')}, and a keyframe interval of {interval} needs {interval + 1}: "
            "pass a longer video or a smaller --keyframe_interval."
        )


def choose_keyframes(
    num_frames: int, interval: int, way: str = "interval", flow: torch.Tensor | None = None
) -> list[int]:
    """Numbers of the keyframes, ascending, the first frame and the last one among them.

    Args:
        interval: Frames from one keyframe to the next; the last gap may be shorter.
        way: "interval", or "motion": as many keyframes, with about the same motion in each gap.
        flow: (F - 1, 2, H, W), for "motion".
    """
    check_interval(num_frames, interval)
    if way == "interval":
        return [*range(0, num_frames - 1, interval), num_frames - 1]
    gaps = math.ceil((num_frames - 1) / interval)
    moved = flow.norm(dim=1).mean(dim=(1, 2)).clamp(min=STILL).cumsum(dim=0)  # (F - 1,), up to frame k + 1
    shares = torch.linspace(0, moved[-1].item(), gaps + 1)[1:-1].to(moved)
    places = torch.searchsorted(moved, shares).add(1).tolist()
    return spread_out([0, *places, num_frames - 1])


def spread_out(places: list[int]) -> list[int]:
    """Ascending numbers as near to these as they can be while no two are the same; both ends stay."""
    last = places[-1]
    for k in range(1, len(places) - 1):
        room = len(places) - 1 - k  # for those behind
        places[k] = min(max(places[k], places[k - 1] + 1), last - room)
    return places
