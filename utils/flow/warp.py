"""Arithmetic of flow (B, 2, H, W) in pixels, x then y: a pixel p of the first frame is at p + flow(p) in the second."""

import torch
from torch.nn import functional

# Sundaram, Brox and Keutzer, ECCV 2010, eq. 5: the round trip may miss by this share of both squared lengths, plus a
# constant.
SHARE, CONSTANT = 0.01, 0.5


def pixel_grid(H: int, W: int, like: torch.Tensor) -> torch.Tensor:
    """Coordinates (2, H, W) of the pixels, x then y, with the dtype and device of `like`."""
    rows = torch.arange(H, dtype=like.dtype, device=like.device)
    columns = torch.arange(W, dtype=like.dtype, device=like.device)
    return torch.stack([columns.expand(H, W), rows[:, None].expand(H, W)])


def warp(second: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """Backward warp: the second frame (B, C, H, W) looked up at p + flow(p), bilinear.

    Places outside take the value of the nearest edge; `leaves_image` says which they are.
    """
    if second.shape[-2:] != flow.shape[-2:]:
        raise ValueError(f"Frames of {tuple(second.shape[-2:])} and flow of {tuple(flow.shape[-2:])} differ in size.")
    H, W = flow.shape[-2:]
    places = pixel_grid(H, W, flow) + flow
    scale = torch.tensor([max(W - 1, 1), max(H - 1, 1)], dtype=flow.dtype, device=flow.device).view(2, 1, 1)
    grid = (2 * places / scale - 1).movedim(1, -1)  # (B, H, W, 2)
    return functional.grid_sample(second, grid.to(second.dtype), padding_mode="border", align_corners=True)


def leaves_image(flow: torch.Tensor) -> torch.Tensor:
    """Where p + flow(p) is outside: bool (B, H, W)."""
    H, W = flow.shape[-2:]
    x, y = (pixel_grid(H, W, flow) + flow).unbind(1)
    return (x < -0.5) | (x > W - 0.5) | (y < -0.5) | (y > H - 0.5)


def compose(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Flow (B, 2, H, W) from frame 0 to 2, composed of the flows from 0 to 1 and from 1 to 2."""
    return first + warp(second, first)


def accumulate(flow: torch.Tensor) -> torch.Tensor:
    """Flow (F - 1, 2, H, W) from frame 0 to each later frame, composed of the flow between neighbours."""
    total = [flow[:1]]
    for step in flow[1:].split(1):
        total.append(compose(total[-1], step))
    return torch.cat(total)


def find_occlusion(forward: torch.Tensor, backward: torch.Tensor) -> torch.Tensor:
    """Occlusion, bool (B, H, W): where forward and backward flow together do not return, or lead outside.

    Args:
        forward: (B, 2, H, W), first frame to second.
        backward: (B, 2, H, W), second frame to first.
    """
    back = warp(backward, forward)
    missed = (forward + back).square().sum(1)
    allowed = SHARE * (forward.square().sum(1) + back.square().sum(1)) + CONSTANT
    return (missed > allowed) | leaves_image(forward)


def resize_flow(flow: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize (B, 2, h, w) to size = (H, W); the vectors grow with it."""
    if flow.shape[-2:] == tuple(size):
        return flow
    h, w = flow.shape[-2:]
    antialias = size[0] < h or size[1] < w
    resized = functional.interpolate(flow, size, mode="bilinear", align_corners=False, antialias=antialias)
    return resized * torch.tensor([size[1] / w, size[0] / h], dtype=flow.dtype, device=flow.device).view(2, 1, 1)


def flip_flow(flow: torch.Tensor, horizontal: bool = True) -> torch.Tensor:
    """Mirror (…, 2, H, W) left and right, or else up and down, with its vectors."""
    sign = torch.tensor([-1.0, 1.0] if horizontal else [1.0, -1.0], dtype=flow.dtype, device=flow.device)
    return flow.flip(-1 if horizontal else -2) * sign.view(2, 1, 1)
