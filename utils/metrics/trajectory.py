"""How well points of a video follow wanted paths.

Protocol. Errors are distances in pixels of the given video, scaled to an image 256 pixels wide, so that sizes compare.
They are means over all frames but the first (where the points are given) and over the points that are visible in truth;
a lost track still counts where the tracker puts it. Published figures of "ObjMC" differ tenfold between protocols:
compare only figures of this one.
"""

import torch

WIDTH = 256
THRESHOLDS = (1.0, 2.0, 4.0, 8.0, 16.0)  # pixels of an image 256 wide, those of TAP-Vid (Doersch et al., NeurIPS 2022)


def trajectory_error(
    tracks: torch.Tensor, target: torch.Tensor, width: int, visible: torch.Tensor | None = None
) -> float:
    """Mean distance of tracks (F, N, 2) from their target, in pixels of an image 256 wide.

    Args:
        tracks, target: Pixels, x then y.
        width: Width of the video in pixels.
        visible: bool (F, N); all, by default.

    Raises:
        ValueError: Shapes differ, or nothing is visible after the first frame.
    """
    return _distances(tracks, target, width, visible).mean().item()


def share_within(tracks: torch.Tensor, target: torch.Tensor, width: int, visible: torch.Tensor | None = None) -> float:
    """Share of points within 1, 2, 4, 8 and 16 px of their target, mean of the five (TAP-Vid's position accuracy)."""
    distances = _distances(tracks, target, width, visible)
    return torch.stack([(distances < limit).float().mean() for limit in THRESHOLDS]).mean().item()


def follow_flow(points: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """Tracks (F, N, 2) of points (N, 2) of frame 0 carried by flow (F - 1, 2, H, W), looked up bilinearly."""
    scale = torch.tensor([flow.shape[-1] - 1, flow.shape[-2] - 1], dtype=flow.dtype, device=flow.device)
    tracks = [points.to(flow)]
    for step in flow.split(1):
        grid = (2 * tracks[-1] / scale - 1).view(1, 1, -1, 2)
        moved = torch.nn.functional.grid_sample(step, grid, padding_mode="border", align_corners=True)
        tracks.append(tracks[-1] + moved[0, :, 0].T)
    return torch.stack(tracks)


def _distances(tracks, target, width, visible) -> torch.Tensor:
    if tracks.shape != target.shape or tracks.ndim != 3 or tracks.shape[-1] != 2:
        raise ValueError(f"Tracks have one shape (F, N, 2), not {tuple(tracks.shape)} and {tuple(target.shape)}.")
    seen = torch.ones(tracks.shape[:2], dtype=torch.bool) if visible is None else visible.cpu()
    if seen.shape != tracks.shape[:2]:
        raise ValueError(
            f"Visibility has the shape (F, N) of the tracks, {tuple(tracks.shape[:2])}, not {tuple(seen.shape)}."
        )
    seen = seen[1:]
    if not seen.any():
        raise ValueError("No point is visible after the first frame.")
    return (tracks - target).norm(dim=-1)[1:][seen.to(tracks.device)] * WIDTH / width
