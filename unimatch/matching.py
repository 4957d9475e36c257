"""Flow from features: a pixel's match is the mean position under a softmax over correlations (GMFlow, eq. 1 to 4)."""

import torch
import torch.nn.functional as F

from .geometry import neighbours, offsets, pixel_grid

# How many numbers `flow_correlation` gathers at a time (64 MiB in float32).
GATHERED = 2**24


def match(feature0: torch.Tensor, feature1: torch.Tensor, radius: int) -> torch.Tensor:
    """Flow (B, 2, H, W) in pixels of feature maps (B, C, H, W): global for `radius` -1, else inside a neighbourhood."""
    return global_match(feature0, feature1) if radius == -1 else local_match(feature0, feature1, radius)


def global_match(feature0: torch.Tensor, feature1: torch.Tensor) -> torch.Tensor:
    """Match with every pixel: an attention from image 0 to image 1 whose values are coordinates."""
    B, _, H, W = feature0.shape
    grid = pixel_grid(H, W, feature0.device)
    return attend(feature0, feature1, grid.expand(B, -1, -1, -1)) - grid


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Attention between all pixels of maps (B, C, H, W), in float32, since its values (B, 2, H, W) are pixels."""
    H, W = query.shape[-2:]
    query, key, value = (x.float().flatten(2).transpose(1, 2) for x in (query, key, value))  # (B, HW, ·)
    with torch.autocast(query.device.type, enabled=False):
        out = F.scaled_dot_product_attention(query, key, value)
    return out.transpose(1, 2).unflatten(2, (H, W))


def local_match(feature0: torch.Tensor, feature1: torch.Tensor, radius: int) -> torch.Tensor:
    """Match with the (2·radius + 1)² pixels around the same place, as far as they are inside the image."""
    scores = local_scores(feature0, feature1, radius)
    inside = torch.cat(list(neighbours(torch.ones_like(scores[:1, :1]), radius)), dim=1).bool()
    probability = scores.masked_fill(~inside, -torch.inf).softmax(dim=1)  # (B, (2R+1)², H, W)
    return torch.einsum("bkhw,kd->bdhw", probability, offsets(radius, scores.device))


def local_scores(query: torch.Tensor, key: torch.Tensor, radius: int) -> torch.Tensor:
    """Scaled products of pixels with neighbourhoods in `key`: (B, (2·radius + 1)², H, W), float32, zero outside."""
    query = query.float() / query.shape[1] ** 0.5
    return torch.stack([(query * near).sum(dim=1) for near in neighbours(key.float(), radius)], dim=1)


def flow_correlation(feature0: torch.Tensor, feature1: torch.Tensor, flow: torch.Tensor, radius: int) -> torch.Tensor:
    """Scaled products of pixels with the neighbourhoods in image 1 that `flow` points to (RAFT, arXiv 2003.12039, 3.2).

    All samples of a neighbourhood lie at the same fraction of a pixel, so the products with the (2·radius + 2)² whole
    pixels around it are interpolated instead of the features.

    Returns:
        (B, (2·radius + 1)², H, W) in float32; features outside the image are zero.
    """
    _, C, H, W = feature0.shape
    point = pixel_grid(H, W, flow.device) + flow.float()
    corner = point.floor()
    products = _corner_products(feature0, feature1, corner, radius)  # (B, H, W, 2R+2, 2R+2)
    fraction_x, fraction_y = (point - corner)[..., None, None].unbind(1)
    products = torch.lerp(products[..., :-1], products[..., 1:], fraction_x)
    products = torch.lerp(products[..., :-1, :], products[..., 1:, :], fraction_y)
    return products.flatten(3).permute(0, 3, 1, 2) / C**0.5


def _corner_products(feature0: torch.Tensor, feature1: torch.Tensor, corner: torch.Tensor, radius: int) -> torch.Tensor:
    """Products with the whole pixels from `corner - radius` to `corner + radius + 1`: (B, H, W, 2R+2, 2R+2)."""
    B, C, H, W = feature0.shape
    side = 2 * radius + 2
    index = _window_index(corner, radius)  # (B·H·W, side²)
    pixels = F.pad(feature1.float(), [1] * 4).permute(0, 2, 3, 1).reshape(-1, C)
    queries = feature0.float().permute(0, 2, 3, 1).reshape(-1, C, 1)
    rows = max(GATHERED // (side * side * C), 1)
    products = [
        torch.bmm(pixels[part], query) for part, query in zip(index.split(rows), queries.split(rows), strict=True)
    ]
    return torch.cat(products).view(B, H, W, side, side)


def _window_index(corner: torch.Tensor, radius: int) -> torch.Tensor:
    """Where the pixels of each window lie in a flattened batch of maps with a border of one zero: (B·H·W, (2R+2)²)."""
    B, _, H, W = corner.shape
    step = torch.arange(-radius, radius + 2, device=corner.device)
    x, y = corner.unbind(1)
    # Clamped before it is made whole: a wild flow must not overflow. Beyond these ends the window is outside.
    x = x.clamp(-radius - 2, W + radius).long()[..., None] + step
    y = y.clamp(-radius - 2, H + radius).long()[..., None] + step
    x, y = x.clamp(-1, W) + 1, y.clamp(-1, H) + 1  # all that is outside reads the border
    batch = torch.arange(B, device=corner.device).view(B, 1, 1, 1, 1)
    index = (batch * (H + 2) + y[..., :, None]) * (W + 2) + x[..., None, :]
    return index.reshape(B * H * W, -1)
