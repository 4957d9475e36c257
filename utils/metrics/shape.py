"""Whether the things in a video stay what they are: their outlines and their colours.

Protocol. An object's mask in a frame is compared with its mask in the first frame, moved to the same centroid and
scaled by as much as the object is in the true clip: intersection over union. Its colour is the mean over its mask,
compared with that in the first frame. Both are means over objects and over the frames after the first in which the true
clip shows the object.
"""

import torch
from torch.nn import functional

SHOWN = 0.5  # share of an object's first area that the true clip has to show for a frame to count


def shape_kept(masks: torch.Tensor, true_masks: torch.Tensor) -> float:
    """Mean intersection over union, 0 to 1; nan if the true clip shows no object after its first frame.

    An object that is not found has 0.

    Args:
        masks: bool (F, K, H, W), each object in each frame.
        true_masks: bool (F, K, H, W), those of the true clip with the same first frame.

    Raises:
        ValueError: Shapes differ.
    """
    _check(masks, true_masks)
    places, scales = _centroids(masks), true_scales(true_masks)
    found = [
        _overlap(masks[t, k], _place(masks[0, k], places[0, k], places[t, k], scales[t, k]))
        for t, k in shown(true_masks).nonzero().tolist()
    ]
    return torch.tensor(found).mean().item()


def color_drift(video: torch.Tensor, masks: torch.Tensor, true_masks: torch.Tensor) -> float:
    """Mean distance of objects' mean colours from their first ones, in levels of 0 to 255; nan if none is found again.

    Args:
        video: (F, 3, H, W) in [-1, 1].
        masks, true_masks: As of `shape_kept`.
    """
    _check(masks, true_masks)
    weights = masks.flatten(2).float()  # (F, K, H W)
    levels = (video.flatten(2).float() + 1) * 127.5  # (F, 3, H W)
    colors = torch.einsum("fkp,fcp->fkc", weights, levels) / weights.sum(dim=2, keepdim=True)
    drift = (colors - colors[:1]).norm(dim=2)[shown(true_masks)]
    return drift.nanmean().item()


def shown(true_masks: torch.Tensor) -> torch.Tensor:
    """Whether an object in a frame counts, bool (F, K); never in the first frame."""
    areas = true_masks.flatten(2).sum(dim=2)
    counts = (areas >= SHOWN * areas[:1]) & (areas[:1] > 0)
    counts[0] = False
    return counts


def true_scales(true_masks: torch.Tensor) -> torch.Tensor:
    """Sides of objects over those in the first frame, (F, K)."""
    areas = true_masks.flatten(2).sum(dim=2).float()
    return (areas / areas[:1]).sqrt()


def _check(masks: torch.Tensor, true_masks: torch.Tensor) -> None:
    if masks.ndim != 4 or masks.shape != true_masks.shape:
        raise ValueError(
            f"Masks are (F, K, H, W), as many of the true clip, not {tuple(masks.shape)} and {tuple(true_masks.shape)}."
        )


def _centroids(masks: torch.Tensor) -> torch.Tensor:
    """(F, K, 2) in pixels, x then y; nan where a mask is empty."""
    H, W = masks.shape[-2:]
    rows, columns = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
    places = torch.stack([columns, rows], dim=-1).flatten(0, 1).float()
    weights = masks.flatten(2).float()
    return weights @ places / weights.sum(dim=2, keepdim=True)


def _place(mask: torch.Tensor, before: torch.Tensor, after: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """A mask (H, W) enlarged about `before`, which moves to `after`, both (2,), x then y; empty if that is nan."""
    H, W = mask.shape
    if after.isnan().any():
        return torch.zeros_like(mask)
    rows, columns = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
    source = (torch.stack([columns, rows], dim=-1) - after) / scale + before
    grid = (2 * source + 1) / torch.tensor([W, H]) - 1
    return functional.grid_sample(mask[None, None].float(), grid[None], align_corners=False)[0, 0] >= 0.5


def _overlap(found: torch.Tensor, due: torch.Tensor) -> float:
    """Intersection over union; 0 if both are empty."""
    return ((found & due).sum() / (found | due).sum().clamp(min=1)).item()
