"""The motion that a user wants in a video: points that are dragged, regions that stay, and a camera move."""

from dataclasses import dataclass

import torch
from torch.nn import functional

from utils.flow.sparse import spread_points
from utils.flow.warp import pixel_grid, resize_flow

REACH_SHARE, RADIUS_SHARE = 1 / 8, 1 / 16  # of the shorter side
SPACING_SHARE = 1 / 4  # of the shorter side, between points that stand for regions
FAR = 2.0  # times the reach: distance from all points beyond which only the camera moves a pixel


@dataclass(frozen=True, eq=False)
class Tracks:
    """Wanted motion in pixels of a video, x then y, from the middle of the upper left pixel; tensors on the CPU.

    Attributes:
        points: (F, N, 2), float32. A point that must not move is one that stays where it is.
        width, height: Of the video.
        static: bool (H, W), pixels that must not move; None for none.
        camera: (F - 1, 2, H, W), flow of all pixels without a point; None for a camera that stands still or is open.
    """

    points: torch.Tensor
    width: int
    height: int
    static: torch.Tensor | None = None
    camera: torch.Tensor | None = None

    def __post_init__(self):
        F, size = len(self.points), (self.height, self.width)
        if self.points.ndim != 3 or self.points.shape[-1] != 2 or F < 2:
            raise ValueError(f"Tracks are (F, N, 2) of at least 2 frames, not {tuple(self.points.shape)}.")
        if self.static is not None and (self.static.shape != size or self.static.dtype != torch.bool):
            raise ValueError(f"The static mask is to be bool {size}, not {tuple(self.static.shape)}.")
        if self.camera is not None and self.camera.shape != (F - 1, 2, *size):
            raise ValueError(f"The camera's flow is to be {(F - 1, 2, *size)}, not {tuple(self.camera.shape)}.")
        if not self.points.isfinite().all():
            raise ValueError("A track has a point that is not finite.")
        check_inside(self.points[0], self.width, self.height)

    @property
    def num_frames(self) -> int:
        return len(self.points)

    @property
    def vectors(self) -> torch.Tensor:
        """(F - 1, N, 2): the step of each point from each frame to the next."""
        return self.points.diff(dim=0)

    @property
    def shorter_side(self) -> int:
        return min(self.width, self.height)

    @property
    def moving(self) -> torch.Tensor:
        """bool (N,): which points move in any step."""
        return (self.vectors != 0).any(dim=-1).any(dim=0)

    @property
    def held_points(self) -> torch.Tensor:
        """(F, K, 2): the points, and after them those that stand for static regions."""
        if self.static is None or not self.static.any():
            return self.points
        return torch.cat([self.points, points_on(self.static).expand(self.num_frames, -1, 2)], dim=1)

    def resized(self, width: int, height: int) -> "Tracks":
        """The same motion in a video stretched to another size; pixels that cover a part of a static one are static."""
        size = (height, width)
        scale = torch.tensor([width / self.width, height / self.height])
        static = None
        if self.static is not None:
            static = functional.adaptive_max_pool2d(self.static[None].float(), size)[0] > 0
        camera = None if self.camera is None else resize_flow(self.camera, size)
        return Tracks((self.points + 0.5) * scale - 0.5, width, height, static, camera)


def outside(points: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """Which of the points (..., 2) lie outside of an image, bool (...)."""
    limit = torch.tensor([width - 0.5, height - 0.5]).to(points)
    return ((points < -0.5) | (points > limit)).any(dim=-1)


def points_on(mask: torch.Tensor) -> torch.Tensor:
    """Points (N, 2) of a regular grid on a mask bool (H, W), or its middlemost pixel where all of them miss it."""
    H, W = mask.shape
    spacing = max(1, round(min(H, W) * SPACING_SHARE))
    on_grid = torch.zeros_like(mask)
    on_grid[spacing // 2 :: spacing, spacing // 2 :: spacing] = True
    found = (mask & on_grid).nonzero().flip(-1).float()
    if len(found) or not mask.any():
        return found
    pixels = mask.nonzero().flip(-1).float()
    return pixels[(pixels - pixels.mean(dim=0)).norm(dim=-1).argmin()][None]


def check_inside(points: torch.Tensor, width: int, height: int) -> None:
    """Raises ValueError for one of the points (N, 2) that lies outside of an image."""
    beyond = outside(points, width, height)
    if beyond.any():
        x, y = points[beyond][0].tolist()
        raise ValueError(f"Frame 0 has the point ({x:g}, {y:g}) outside of its {width}x{height} pixels.")


def known_flow(
    tracks: Tracks, radius: float | None = None, reach: float | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The flow that the tracks fix: (F - 1, 2, H, W) in pixels, and where it is known, bool (F - 1, 1, H, W).

    Flow k is known on the pixels of frame k: in a disc around each point, where the nearest point counts; in static
    pixels outside of the discs, where it is 0; and with a camera move in all pixels that are more than `FAR` times
    `reach` away from every point. How far the object under a point extends is open.

    Args:
        radius: Radius of the discs in pixels, at least so large that a disc has a pixel (default: 1/16 of the shorter
            side).
        reach: As in `dense_flow`.
    """
    radius = disc_radius(tracks, radius)
    reach = tracks.shorter_side * REACH_SHARE if reach is None else reach
    flows, known = zip(*(_known_step(tracks, k, radius, reach) for k in range(tracks.num_frames - 1)), strict=True)
    return torch.stack(flows), torch.stack(known)[:, None]


def point_discs(tracks: Tracks, radius: float | None = None) -> torch.Tensor:
    """The discs of `known_flow`, bool (F - 1, 1, H, W); `radius` as there."""
    size = (tracks.height, tracks.width)
    steps = zip(tracks.points, tracks.vectors, strict=False)
    discs = [_nearest(size, points, vectors)[0] <= disc_radius(tracks, radius) for points, vectors in steps]
    return torch.stack(discs)[:, None]


def disc_radius(tracks: Tracks, radius: float | None) -> float:
    """The radius of the discs in pixels, at least so large that a disc has a pixel."""
    return max(0.71, tracks.shorter_side * RADIUS_SHARE if radius is None else radius)


def dense_flow(tracks: Tracks, reach: float | None = None, radius: float | None = None) -> torch.Tensor:
    """Flow interpolated with a Gaussian around each point, (F - 1, 2, H, W) in pixels.

    The vectors fall off over `reach` to the camera's flow, or to 0 (`spread_points`); `known_flow` is kept exactly.

    Args:
        reach: Deviation of the Gaussian in pixels (default: 1/8 of the shorter side).
        radius: As in `known_flow`.
    """
    reach = tracks.shorter_side * REACH_SHARE if reach is None else reach
    flow, known = known_flow(tracks, radius, reach)
    guess = torch.stack([_spread_step(tracks, k, reach) for k in range(tracks.num_frames - 1)])
    return torch.where(known, flow, guess)


def _known_step(tracks: Tracks, k: int, radius: float, reach: float) -> tuple[torch.Tensor, torch.Tensor]:
    size = (tracks.height, tracks.width)
    flow, known = torch.zeros(2, *size), torch.zeros(size, dtype=torch.bool)
    distance, vectors = _nearest(size, tracks.points[k], tracks.vectors[k])
    if tracks.camera is not None:
        known = distance > FAR * reach
        flow = tracks.camera[k] * known
    if tracks.static is not None:
        known, flow = known | tracks.static, flow * ~tracks.static
    disc = distance <= radius
    return torch.where(disc, vectors, flow), known | disc


def _nearest(size: tuple[int, int], points: torch.Tensor, vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Distance (H, W) of each pixel from the nearest point (N, 2), inf without any, and its vector (2, H, W)."""
    grid = pixel_grid(*size, like=points)
    if len(points) == 0:
        return torch.full(grid.shape[1:], torch.inf), torch.zeros_like(grid)
    distances, nearest = (grid - points[..., None, None]).norm(dim=1).min(dim=0)
    return distances, vectors[nearest].movedim(-1, 0)


def _spread_step(tracks: Tracks, k: int, reach: float) -> torch.Tensor:
    """Flow (2, H, W) of step k that falls off to the camera's flow."""
    points, vectors = tracks.points[k], tracks.vectors[k]
    size = (tracks.height, tracks.width)
    if tracks.camera is None:
        return spread_points(points, vectors, size, reach)
    behind = tracks.camera[k]
    return behind + spread_points(points, vectors - look_up(behind, points), size, reach)


def look_up(flow: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Vectors (N, 2) of flow (2, H, W) at points (N, 2), bilinear; points outside take the nearest edge."""
    H, W = flow.shape[-2:]
    scale = torch.tensor([max(W - 1, 1), max(H - 1, 1)], dtype=flow.dtype, device=flow.device)
    grid = (2 * points.to(flow) / scale - 1).view(1, 1, -1, 2)
    return functional.grid_sample(flow[None], grid, padding_mode="border", align_corners=True)[0, :, 0].T
