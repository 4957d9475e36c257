"""What a user's tracks say of a whole picture: the guess of `utils/tracks/heuristic_flow.py` for drags, static parts and a camera."""

import torch

from utils.tracks.heuristic_flow import camera_backward_flow, guess_flow, move_picture
from utils.tracks.tracks import Tracks, known_flow, outside, point_discs


def track_pictures(tracks: Tracks, image: torch.Tensor) -> torch.Tensor:
    """What a ControlNet's base is told in place of an image (3, H, W) in [-1, 1]: the image moved as a user asks, (F, 3, H, W)."""
    ground = None if tracks.camera is None else camera_backward_flow(tracks.camera)
    return move_picture(*_shown_points(tracks), image, ground)


def track_flow(tracks: Tracks, image: torch.Tensor, radius: float | None = None) -> torch.Tensor:
    """The flow by which it moves, (F - 1, 2, H, W) in pixels; exact in discs around points (`known_flow`) and in static regions."""
    guess = guess_flow(*_shown_points(tracks), image, tracks.camera)
    said = point_discs(tracks, radius)
    if tracks.static is not None:
        said = said | tracks.static
    return torch.where(said, known_flow(tracks, radius)[0], guess)


def _shown_points(tracks: Tracks) -> tuple[torch.Tensor, torch.Tensor]:
    points = tracks.held_points
    return points, ~outside(points, tracks.width, tracks.height)
