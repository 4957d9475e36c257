"""Tracks as the control maps of a ControlNet: 8 channels for each frame, all zero where no point is near.

0, 1    at the place of a point in frame k: its flow to frame k + 1, x then y; the last frame repeats the step before
2, 3    there too: the vector back to its place in frame 0, the image that the network is conditioned on
4       1 at that place
5, 6    at its place in frame 0: the vector from there to its place in frame k
7       1 at that place

Every value is spread by a Gaussian, and a vector v becomes sign(v) sqrt(|v| / unit), by component, so that slow motion
is seen beside fast motion. Both sizes are shares of the image's shorter side: an image resized with its tracks has
the same control map. A point that stays has zero vectors and ones in 4 and 7, which differs from no point at all.
"""

import torch

from utils.metrics.trajectory import follow_flow
from utils.tracks.tracks import FAR, REACH_SHARE, Tracks, outside, points_on

CONTROL_CHANNELS = 8
SPREAD_SHARE = 1 / 32  # deviation of the Gaussians
UNIT_SHARE = 1 / 4  # motion that becomes 1


def track_control(tracks: Tracks) -> torch.Tensor:
    """The control map (F, 8, H, W) of a user's tracks: dragged points, static regions and a camera move."""
    points, shown = control_points(tracks)
    return draw_control(points, shown, (tracks.height, tracks.width))


def control_points(tracks: Tracks) -> tuple[torch.Tensor, torch.Tensor]:
    """All that tracks say as points (F, K, 2), and bool (F, K), whether they are inside of the image.

    Static regions and the camera are points on a grid; those of the camera keep clear of the other points and of static
    pixels.
    """
    points = tracks.held_points
    if tracks.camera is not None:
        points = torch.cat([points, follow_flow(points_on(_free(tracks)), tracks.camera)], dim=1)
    return points, ~outside(points, tracks.width, tracks.height)


def draw_control(points: torch.Tensor, shown: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The control map (..., F, 8, H, W) of points.

    Args:
        points: (..., F, K, 2), pixels, x then y, F at least 2.
        shown: bool (..., F, K); a point is left out of the frames where it is false.
        size: H and W.
    """
    unit = min(size) * UNIT_SHARE
    steps = points.diff(dim=-3)
    steps = torch.cat([steps, steps[..., -1:, :, :]], dim=-3)
    start = points[..., :1, :, :].expand_as(points)
    way = points - start
    here = _spread(points, _signed_root(torch.cat([steps, -way], dim=-1) / unit), shown, size)
    there = _spread(start, _signed_root(way / unit), shown, size)
    return torch.cat([here, there], dim=-3)


def _spread(places: torch.Tensor, values: torch.Tensor, shown: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Values (..., K, C) spread around places (..., K, 2), and the sum of their weights, at most 1: (..., C + 1, H, W).

    A pixel between several points takes their weighted mean where their weights sum to more than 1.
    """
    H, W = size
    deviation = min(size) * SPREAD_SHARE
    columns, rows = (
        (-(torch.arange(side).to(places) - place[..., None]).square() / (2 * deviation**2)).exp()
        for side, place in zip((W, H), places.unbind(-1), strict=True)
    )  # (..., K, W), (..., K, H)
    values = torch.cat([values, torch.ones_like(values[..., :1])], dim=-1) * shown[..., None]
    sums = torch.einsum("...kh,...kcw->...chw", rows, values[..., None] * columns[..., None, :])
    total = sums[..., -1:, :, :]
    return torch.cat([sums[..., :-1, :, :] / total.clamp(min=1), total.clamp(max=1)], dim=-3)


def _signed_root(values: torch.Tensor) -> torch.Tensor:
    return values.sign() * values.abs().sqrt()


def _free(tracks: Tracks) -> torch.Tensor:
    """Pixels (H, W) of frame 0 in which only the camera moves anything."""
    rows, columns = torch.meshgrid(torch.arange(tracks.height), torch.arange(tracks.width), indexing="ij")
    pixels = torch.stack([columns, rows], dim=-1).float()  # (H, W, 2)
    distances = torch.cdist(pixels.flatten(0, 1), tracks.points[0]).view(tracks.height, tracks.width, -1)
    free = (distances > FAR * REACH_SHARE * tracks.shorter_side).all(dim=-1)
    return free if tracks.static is None else free & ~tracks.static
