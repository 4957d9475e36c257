"""Flow propagation: pixels whose match is hidden take the flow of pixels that look alike (GMFlow, eq. 5)."""

import torch
from torch import nn

from .geometry import neighbours
from .matching import attend, local_scores


class SelfAttnPropagation(nn.Module):
    """Attention from features to the same features, whose values are the flow."""

    def __init__(self, channels: int):
        super().__init__()
        self.q_proj = nn.Linear(channels, channels)
        self.k_proj = nn.Linear(channels, channels)
        for projection in (self.q_proj, self.k_proj):
            nn.init.xavier_uniform_(projection.weight)

    def forward(self, feature: torch.Tensor, flow: torch.Tensor, radius: int) -> torch.Tensor:
        """Flow (B, 2, H, W) to flow, along features (B, C, H, W): from everywhere for `radius` -1, else from nearby."""
        pixels = feature.permute(0, 2, 3, 1)
        query = self.q_proj(pixels)
        if radius > 0:
            key = self.k_proj(pixels)
            return _average_nearby(query.permute(0, 3, 1, 2), key.permute(0, 3, 1, 2), flow, radius)
        # The published weights were trained with keys made of the queries here, though not in the local form.
        key = self.k_proj(query)
        return attend(query.permute(0, 3, 1, 2), key.permute(0, 3, 1, 2), flow)


def _average_nearby(query: torch.Tensor, key: torch.Tensor, flow: torch.Tensor, radius: int) -> torch.Tensor:
    """Outside the image the scores and the flow are zero, and take part, as in training."""
    probability = local_scores(query, key, radius).softmax(dim=1)
    weights = probability.unsqueeze(2).unbind(1)  # (B, 1, H, W) each
    return sum(weight * near for weight, near in zip(weights, neighbours(flow, radius), strict=True))
