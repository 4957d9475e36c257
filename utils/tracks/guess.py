"""What a user's tracks say of a whole picture: the guess of `utils/tracks/way_back.py` for drags, static parts and a camera."""

import torch

from utils.tracks.tracks import Tracks, known_flow, outside
from utils.tracks.way_back import camera_way_back, guess_flow, move_picture


def track_pictures(tracks: Tracks, image: torch.Tensor) -> torch.Tensor:
    """What a ControlNet's base is told in place of an image (3, H, W) in [-1, 1]: the image moved as a user asks, (F, 3, H, W)."""
    ground = None if tracks.camera is None else camera_way_back(tracks.camera)
    return move_picture(*_shown_points(tracks), image, ground)


def track_flow(
    tracks: Tracks, image: torch.Tensor, reach: float | None = None, radius: float | None = None
) -> torch.Tensor:
    """The flow by which it moves, (F - 1, 2, H, W) in pixels; what is known (`known_flow`, with its reach and radius) is exact."""
    guess = guess_flow(*_shown_points(tracks), image, tracks.camera)
    flow, known = known_flow(tracks, radius, reach)
    return torch.where(known, flow, guess)


def _shown_points(tracks: Tracks) -> tuple[torch.Tensor, torch.Tensor]:
    points = tracks.held_points
    return points, ~outside(points, tracks.width, tracks.height)
