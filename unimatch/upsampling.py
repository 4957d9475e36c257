"""From the flow of a feature map to the flow of the image."""

import torch
import torch.nn.functional as F


def upsample_bilinear(flow: torch.Tensor, factor: int) -> torch.Tensor:
    """(B, 2, h, w) to (B, 2, factor·h, factor·w), corners on corners; the vectors grow by the factor too."""
    return factor * F.interpolate(flow, scale_factor=factor, mode="bilinear", align_corners=True)


def upsample_convex(flow: torch.Tensor, mask: torch.Tensor, factor: int) -> torch.Tensor:
    """Each fine pixel is a convex combination of the 3x3 coarse ones around it (RAFT, arXiv 2003.12039, 3.3).

    Args:
        flow: (B, 2, h, w), pixels of the coarse map.
        mask: (B, 9·factor², h, w), logits: neighbour, then row and column inside the coarse pixel.

    Returns:
        (B, 2, factor·h, factor·w) in pixels of the fine map. Outside the coarse map the flow counts as zero.
    """
    B, _, h, w = flow.shape
    weights = mask.float().view(B, 9, factor * factor, h * w).softmax(dim=1)
    near = F.unfold(factor * flow, 3, padding=1).view(B, 2, 9, h * w)
    fine = torch.einsum("bkfn,bckn->bcfn", weights, near).reshape(B, 2 * factor * factor, h, w)
    return F.pixel_shuffle(fine, factor)
