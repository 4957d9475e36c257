"""Tracks as pipelines take them: for all images of a call, or one for each."""

from collections.abc import Sequence

import torch

from utils.messages.words import count
from utils.tracks import Tracks


def check_tracks(tracks: Tracks | Sequence[Tracks], pixels: torch.Tensor) -> list[Tracks]:
    """The tracks of each image.

    Args:
        tracks: For all images, or one for each.
        pixels: The images (B, 3, H, W).

    Raises:
        ValueError: They are of another number or size than the images, or of several lengths.
    """
    B, _, H, W = pixels.shape
    tracks = [tracks] * B if isinstance(tracks, Tracks) else list(tracks)
    if len(tracks) != B:
        raise ValueError(
            f"There are tracks for {count(len(tracks), 'video')} and {count(B, 'image')}: pass one for each, or one."
        )
    for one in tracks:
        if (one.width, one.height) != (W, H):
            raise ValueError(
                f"The tracks are of {one.width}x{one.height} pixels and the image of {W}x{H}: see Tracks.resized."
            )
        if one.num_frames != tracks[0].num_frames:
            raise ValueError(
                f"Tracks of {tracks[0].num_frames} and of {one.num_frames} frames cannot be sampled together: "
                "bring them to one length, or call once for each."
            )
    return tracks
