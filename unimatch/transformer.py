"""Self- and cross-attention between the features of two images (GMFlow, 3.1): what makes them comparable."""

import torch
import torch.nn.functional as F
from torch import nn

from .position import sine_position
from .windows import from_windows, shift_mask, to_windows


class TransformerLayer(nn.Module):
    """One attention with its residual; with `ffn`, a feed-forward network reads the source beside what was attended."""

    def __init__(self, channels: int, ffn_dim_expansion: int, ffn: bool):
        super().__init__()
        self.q_proj = nn.Linear(channels, channels, bias=False)
        self.k_proj = nn.Linear(channels, channels, bias=False)
        self.v_proj = nn.Linear(channels, channels, bias=False)
        self.merge = nn.Linear(channels, channels, bias=False)
        self.norm1 = nn.LayerNorm(channels)
        self.mlp = None
        if ffn:
            self.mlp = nn.Sequential(
                nn.Linear(2 * channels, 2 * channels * ffn_dim_expansion, bias=False),
                nn.GELU(),
                nn.Linear(2 * channels * ffn_dim_expansion, channels, bias=False),
            )
            self.norm2 = nn.LayerNorm(channels)

    def forward(self, source: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Windows (B, K, N, C) that read the same windows of `target`; the mask (K, N, N) is added to the scores."""
        query, key, value = self.q_proj(source), self.k_proj(target), self.v_proj(target)
        message = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        message = self.norm1(self.merge(message))
        if self.mlp is not None:
            message = self.norm2(self.mlp(torch.cat([source, message], dim=-1)))
        return source + message


class TransformerBlock(nn.Module):
    """Each image attends to itself, then to the other as it was before the block."""

    def __init__(self, channels: int, ffn_dim_expansion: int):
        super().__init__()
        self.self_attn = TransformerLayer(channels, ffn_dim_expansion, ffn=False)
        self.cross_attn_ffn = TransformerLayer(channels, ffn_dim_expansion, ffn=True)

    def forward(self, pair: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Windows (2B, K, N, C): the first B of image 0, the others of image 1."""
        other = torch.cat(pair.chunk(2)[::-1])
        pair = self.self_attn(pair, pair, mask)
        return self.cross_attn_ffn(pair, other, mask)


class FeatureTransformer(nn.Module):
    """The blocks, on windows whose cut shifts by half in every second one."""

    def __init__(self, num_layers: int, channels: int, ffn_dim_expansion: int):
        super().__init__()
        self.layers = nn.ModuleList(TransformerBlock(channels, ffn_dim_expansion) for _ in range(num_layers))
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(
        self, feature0: torch.Tensor, feature1: torch.Tensor, attn_type: str, attn_splits: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Two maps (B, C, H, W) to two of the same shape.

        Args:
            attn_type: "swin" attends inside `attn_splits`² windows, "full" everywhere.
            attn_splits: Number of windows along each side; positions are counted inside them in both cases.

        Raises:
            ValueError: H or W is no multiple of `attn_splits`.
        """
        pair = torch.cat([feature0, feature1])
        pair = (pair + window_position(pair, attn_splits)).permute(0, 2, 3, 1)  # (2B, H, W, C)
        _, H, W, _ = pair.shape
        splits = attn_splits if attn_type == "swin" else 1
        mask = shift_mask(H, W, splits, pair.device, pair.dtype) if splits > 1 else None
        for index, layer in enumerate(self.layers):
            shifted = splits > 1 and index % 2 == 1
            # All but the attention acts on single pixels, so a whole block runs on windows.
            windows = to_windows(pair, splits, shifted)
            pair = from_windows(layer(windows, mask if shifted else None), H, W, splits, shifted)
        feature0, feature1 = pair.permute(0, 3, 1, 2).contiguous().chunk(2)
        return feature0, feature1


def window_position(feature: torch.Tensor, splits: int) -> torch.Tensor:
    """The encoding of positions (C, H, W) for a map (B, C, H, W), counted anew in each of `splits`² windows."""
    _, C, H, W = feature.shape
    if H % splits or W % splits:
        raise ValueError(f"A feature map of {H} x {W} cannot be cut into {splits} x {splits} windows; pad the images.")
    position = sine_position(C, H // splits, W // splits, feature.device)
    return position.repeat(1, splits, splits).to(feature.dtype)
