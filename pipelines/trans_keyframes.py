"""Videos through many keyframes, and longer than the model's: gaps are filled one by one, long ones halved first."""

from collections.abc import Callable, Sequence

import torch

Sample = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]  # first, last (3, H, W), F -> frames (F, 3, H, W)


def place_keyframes(count: int, total_frames: int) -> list[int]:
    """Numbers of keyframes in a video, evenly spread, the first frame and the last one among them.

    Raises:
        ValueError: There are fewer frames than keyframes, or fewer than two keyframes.
    """
    if count < 2:
        raise ValueError(f"There is {count} keyframe: pass two or more.")
    if total_frames < count:
        raise ValueError(f"total_frames {total_frames} has no room for {count} keyframes: pass more frames.")
    return torch.linspace(0, total_frames - 1, count).round().int().tolist()


def fill_keyframes(sample: Sample, keyframes: Sequence[torch.Tensor], total_frames: int, most: int) -> torch.Tensor:
    """A video (total_frames, 3, H, W) that passes through the keyframes (3, H, W).

    Args:
        sample: The frames between two, both included, 3 to `most` of them.
        most: Frames that the model samples at once.
    """
    places = place_keyframes(len(keyframes), total_frames)
    video = [keyframes[0][None]]
    for k in range(len(keyframes) - 1):
        gap = fill_gap(sample, keyframes[k], keyframes[k + 1], places[k + 1] - places[k] + 1, most)
        video.append(gap[1:])
    return torch.cat(video)


def fill_gap(sample: Sample, first: torch.Tensor, last: torch.Tensor, length: int, most: int) -> torch.Tensor:
    """`length` frames from the first to the last; where they are more than `most`, the middle one is sampled before."""
    if length == 2:
        return torch.stack([first, last])
    if length <= most:
        return sample(first, last, length)
    middle = sample(first, last, most)[most // 2]
    left = round((most // 2) / (most - 1) * (length - 1)) + 1
    halves = (
        fill_gap(sample, first, middle, left, most),
        fill_gap(sample, middle, last, length - left + 1, most),
    )
    return torch.cat([halves[0], halves[1][1:]])
