"""Dense flow of a few points that move."""

import torch

from utils.flow.warp import pixel_grid

TINY = 1e-6  # square pixels: of a pixel that lies on a point


def spread_points(points: torch.Tensor, vectors: torch.Tensor, size: tuple[int, int], sigma: float) -> torch.Tensor:
    """Flow (2, H, W) that takes the value of each vector at its point and falls off to 0 over `sigma` pixels.

    Flow is the mean of the vectors with the weights w / distance^2, w = exp(-distance^2 / (2 sigma^2)), times the
    largest w: at a point it is that point's vector however near the others are (Shepard's interpolation), far from all
    it vanishes.

    Args:
        points: (N, 2) pixels, x then y.
        vectors: (N, 2) pixels.
        size: (H, W).
        sigma: Reach in pixels, positive.
    """
    if sigma <= 0:
        raise ValueError(f"sigma={sigma} has to be positive.")
    grid = pixel_grid(*size, like=vectors)
    if len(points) == 0:
        return torch.zeros_like(grid)
    squares = (grid - points[..., None, None]).square().sum(1)  # (N, H, W)
    log_weights = -squares / (2 * sigma**2)
    mean = torch.einsum("nhw,nc->chw", (log_weights - (squares + TINY).log()).softmax(0), vectors)
    return mean * log_weights.amax(0).exp()


def tracks_to_flow(
    tracks: torch.Tensor,
    size: tuple[int, int],
    sigma: float,
    visible: torch.Tensor | None = None,
    from_first: bool = False,
) -> torch.Tensor:
    """Dense flow (F - 1, 2, H, W) of tracks (F, N, 2), spread around the points.

    Args:
        tracks: Pixels, x then y.
        size: (H, W).
        sigma: Reach of a point in pixels.
        visible: bool (F, N); a vector counts where both its ends are visible (default: everywhere).
        from_first: Flow from frame 0 to each later frame (default: between neighbours).
    """
    if tracks.ndim != 3 or tracks.shape[-1] != 2 or len(tracks) < 2:
        raise ValueError(f"Tracks have the shape (F, N, 2) with at least 2 frames, not {tuple(tracks.shape)}.")
    if visible is None:
        visible = torch.ones(tracks.shape[:2], dtype=torch.bool, device=tracks.device)
    flows = []
    for t in range(1, len(tracks)):
        start = 0 if from_first else t - 1
        both = visible[start] & visible[t]
        points = tracks[start][both]
        flows.append(spread_points(points, tracks[t][both] - points, size, sigma))
    return torch.stack(flows)
