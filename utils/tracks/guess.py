"""The heuristic flow (`utils.tracks.heuristic_flow`) of a user's tracks: drags, static regions and a camera move."""

import torch

from utils.tracks.heuristic_flow import camera_backward_flow, guess_flow, move_image
from utils.tracks.tracks import Tracks, known_flow, outside, point_discs


def track_images(tracks: Tracks, image: torch.Tensor) -> torch.Tensor:
    """The first frame (3, H, W) in [-1, 1] warped by the heuristic flow: images (F, 3, H, W) for a ControlNet."""
    ground = None if tracks.camera is None else camera_backward_flow(tracks.camera)
    return move_image(*_shown_points(tracks), image, ground)


def track_flow(tracks: Tracks, image: torch.Tensor, radius: float | None = None) -> torch.Tensor:
    """Heuristic flow (F - 1, 2, H, W), pixels; exact in discs around points (`known_flow`) and in static regions."""
    guess = guess_flow(*_shown_points(tracks), image, tracks.camera)
    said = point_discs(tracks, radius)
    if tracks.static is not None:
        said = said | tracks.static
    return torch.where(said, known_flow(tracks, radius)[0], guess)


def _shown_points(tracks: Tracks) -> tuple[torch.Tensor, torch.Tensor]:
    points = tracks.held_points
    return points, ~outside(points, tracks.width, tracks.height)
