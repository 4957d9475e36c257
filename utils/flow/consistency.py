"""Whether a clip moves as a flow says: each frame against the next one, warped back to it."""

import torch
from torch.nn import functional

from utils.flow.warp import leaves_image, resize_flow, warp

SAME_COLOR = (
    0.2  # mean difference over the channels, of pixels in [-1, 1], up to which two are taken for the same point
)


def visible_in_next(frames: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """Which pixels of frames (F, 3, H, W) in [-1, 1] are seen in the next one: bool (F - 1, H, W).

    Those that stay inside the image and find their own colour where flow (F - 1, 2, H, W) sends them: what is
    covered, lit differently or has a wrong flow does not.
    """
    difference = (warp(frames[1:], flow) - frames[:-1]).abs().mean(1)
    return (difference < SAME_COLOR) & ~leaves_image(flow)


def flow_consistency(latents: torch.Tensor, flow: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """Squared difference (B,) between each frame of latents (B, F, C, h, w) and the next one warped back, where it is
    visible.

    Args:
        flow: (B, F - 1, 2, H, W) in pixels, of any size; brought to that of the latents.
        visible: (B, F - 1, H, W), of `visible_in_next`; a latent pixel weighs as much as its share of visible
            pixels.
    """
    B, (h, w) = len(latents), latents.shape[-2:]
    small = resize_flow(flow.flatten(0, 1).to(latents), (h, w))
    weight = functional.adaptive_avg_pool2d(visible.flatten(0, 1)[:, None].to(latents), (h, w))
    difference = (warp(latents[:, 1:].flatten(0, 1), small) - latents[:, :-1].flatten(0, 1)).square().mean(1, True)
    sums = torch.stack([difference * weight, weight]).reshape(2, B, -1).sum(-1)
    return sums[0] / sums[1].clamp(min=1)
