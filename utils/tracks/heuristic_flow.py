"""A heuristic flow of the whole image, from a few tracks and the first frame alone, without a network.

The object under a point is taken to reach as far as the image looks alike around the point (edge-aware interpolation
of sparse matches, Revaud et al., CVPR 2015). It moves with its point as a whole, without turning or growing; the place
that it leaves is filled from its surroundings; everything else stays.
"""

import cv2
import numpy as np
import torch

from utils.flow.warp import pixel_grid, warp
from utils.tracks.tracks import look_up, outside

CORE_SHARE = 1 / 16  # of the shorter side: deviation around a point of what belongs to it, however it looks
REACH_SHARE = 3 / 16  # of the shorter side: deviation around a point of what looks alike
ALIKE = 0.055  # deviation of colours that look alike
DARKEST = 0.15  # sum of the colours in [0, 1] below which their ratios say little
SHADING = 0.08  # weight of brightness, which varies on one object, beside the ratios of the colours
INSIDE = 0.25  # matte above which a pixel is filled in from outside after its object has left
ON_IT = 0.4  # matte above which a pixel moves with its object in `guess_flow`, whose result has sharp edges
MOVES = 0.5  # pixels from which on a point counts as moving
INVERSIONS = 8  # fixed-point iterations that invert the flow of a camera


def guess_backward_flow(
    points: torch.Tensor, shown: torch.Tensor, image: torch.Tensor, ground: torch.Tensor | None = None
) -> torch.Tensor:
    """Flow from each pixel of each frame back to its place in frame 0, (F, 2, H, W), pixels, x then y.

    Args:
        points: (F, K, 2), pixels, x then y.
        shown: bool (F, K); a point that is not shown in frame 0 is ignored, and one that is not shown in a later
            frame is hidden there or has left the image.
        image: Frame 0, (3, H, W) in [-1, 1].
        ground: Backward flow (F, 2, H, W) of everything without a point, such as that of a camera move; default: zero.
    """
    points, shown = points[:, shown[0]].to(image), shown[:, shown[0]].to(image.device)
    ground = image.new_zeros(len(points), 2, *image.shape[-2:]) if ground is None else ground.to(image)
    if points.shape[1] == 0:
        return ground
    own, ways = mattes(points[0], image), points[:1] - points  # (K, H, W), (F, K, 2)
    apart = ways - torch.stack([look_up(*frame) for frame in zip(ground, points, strict=True)])
    way_out = _way_out(own[(apart.norm(dim=-1) > MOVES).any(dim=0)], image)
    H, W = image.shape[-2:]
    shown = shown | outside(points, W, H)  # such points have left the image, and nothing hides them
    found = []
    for way, seen, moved, behind in zip(ways, shown, apart, ground, strict=True):
        arrived = _moved(own, way) * seen[:, None, None]
        gone = (own * moved.norm(dim=-1).clamp(max=1)[:, None, None]).amax(dim=0)
        uncovered = behind + warp((gone * way_out)[None], behind[None])[0]
        left = 1 - arrived.sum(dim=0).clamp(max=1)
        found.append((1 - left) * torch.einsum("khw,kc->chw", _shares(arrived, own), way) + left * uncovered)
    return torch.stack(found)


def guess_flow(
    points: torch.Tensor, shown: torch.Tensor, image: torch.Tensor, ground: torch.Tensor | None = None
) -> torch.Tensor:
    """Flow (F - 1, 2, H, W) from each frame to the next, on the pixels of each; pixels, x then y.

    Arguments as in `guess_backward_flow`, but `ground` is the flow (F - 1, 2, H, W) of everything without a point.
    """
    points, shown = points[:, shown[0]].to(image), shown[:, shown[0]].to(image.device)
    F, (H, W) = len(points), image.shape[-2:]
    ground = image.new_zeros(F - 1, 2, H, W) if ground is None else ground.to(image)
    if points.shape[1] == 0:
        return ground
    own = mattes(points[0], image)
    found = []
    for start, end, seen, behind in zip(points[:-1], points[1:], shown[:-1], ground, strict=True):
        arrived = _moved(own, points[0] - start) * (seen | outside(start, W, H))[:, None, None]
        on_it = arrived * (arrived > ON_IT)
        foremost = (end - start)[_shares(on_it, own).argmax(dim=0)].movedim(-1, 0)
        found.append(torch.where(on_it.amax(dim=0) > 0, foremost, behind))
    return torch.stack(found)


def move_image(
    points: torch.Tensor, shown: torch.Tensor, image: torch.Tensor, ground: torch.Tensor | None = None
) -> torch.Tensor:
    """The first frame warped by `guess_backward_flow`, whose arguments it takes: (F, 3, H, W)."""
    way = guess_backward_flow(points, shown, image, ground)
    return warp(image.expand(len(way), -1, -1, -1), way)


def camera_backward_flow(flow: torch.Tensor) -> torch.Tensor:
    """Backward flow (F, 2, H, W) to frame 0 of a smooth flow (F - 1, 2, H, W) from each frame to the next."""
    ways = [torch.zeros_like(flow[0])]
    for step in flow:
        back = -step
        for _ in range(INVERSIONS):  # p + back is where a pixel is that the step takes to p
            back = -warp(step[None], back[None])[0]
        ways.append(back + warp(ways[-1][None], back[None])[0])
    return torch.stack(ways)


def mattes(points: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Mattes (K, H, W), 0 to 1: how much each pixel belongs to the object under each point (K, 2)."""
    side = min(image.shape[-2:])
    looks = _looks(image)
    grid = pixel_grid(*image.shape[-2:], like=image)
    squares = (grid - points[..., None, None].to(image)).square().sum(dim=1)  # (K, H, W)
    nearest = squares.flatten(1).topk(9, largest=False).indices  # the pixels around each point
    typical = looks.flatten(1)[:, nearest].median(dim=-1).values.T  # (K, C)
    unlike = (looks - typical[..., None, None]).square().sum(dim=1)
    alike = (-squares / (2 * (side * REACH_SHARE) ** 2) - unlike / (2 * ALIKE**2)).exp()
    core = (-squares / (2 * (side * CORE_SHARE / 2) ** 2)).exp()
    return (1.6 * alike).clamp(max=1).maximum(core)


def _shares(arrived: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """Weights (K, H, W) where several mattes overlap: the smaller one counts, an object before the ground behind it."""
    weight = arrived / own.sum(dim=(1, 2)).square()[:, None, None]
    return weight / weight.sum(dim=0).clamp(min=1e-12)


def _looks(image: torch.Tensor) -> torch.Tensor:
    """Ratios of the colours, which shading leaves as they are, and a little of the brightness: (4, H, W)."""
    colors = (image + 1) / 2
    brightness = colors.sum(dim=0, keepdim=True)
    return torch.cat([colors / (brightness + DARKEST), SHADING * brightness])


def _moved(own: torch.Tensor, ways: torch.Tensor) -> torch.Tensor:
    """Mattes (K, H, W), each shifted as a whole by its backward vector (K, 2); nothing comes in from outside."""
    flow = ways[..., None, None].to(own).expand(-1, -1, *own.shape[-2:])
    H, W = own.shape[-2:]
    x, y = (pixel_grid(H, W, like=own) + flow).unbind(dim=1)
    inside = (x > -1) & (x < W) & (y > -1) & (y < H)
    return warp(own[:, None], flow)[:, 0] * inside


def _way_out(own: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Vectors (2, H, W), in pixels, from each pixel inside of mattes (K, H, W) to the nearest pixel outside."""
    H, W = image.shape[-2:]
    way = np.zeros((2, H, W), np.float32)
    inside = (own > INSIDE).any(dim=0).cpu().numpy().astype(np.uint8)
    inside = cv2.dilate(inside, np.ones((3, 3), np.uint8))
    if inside.any() and not inside.all():
        _, labels = cv2.distanceTransformWithLabels(inside, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
        outside = np.argwhere(inside == 0)
        places = np.zeros((labels.max() + 1, 2), np.float32)
        places[labels[inside == 0]] = outside[:, ::-1]
        grid = np.stack(np.meshgrid(np.arange(W), np.arange(H))).astype(np.float32)
        way = np.where(inside, places[labels].transpose(2, 0, 1) - grid, 0).astype(np.float32)
    return torch.from_numpy(way).to(image)
