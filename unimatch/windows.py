"""Maps cut into windows and put together again, shifted by half in every second layer (Swin, arXiv 2103.14030)."""

import functools

import torch

# Added to the scores of pairs that the shift brought together across the border. The weights were trained with this
# value, which leaves such pairs a trace of attention where scores are large; -inf would not.
FOREIGN = -100.0


def to_windows(x: torch.Tensor, splits: int, shifted: bool) -> torch.Tensor:
    """(B, H, W, C) to (B, splits², H/splits · W/splits, C), windows row by row.

    Raises:
        ValueError: H or W is no multiple of `splits`.
    """
    B, H, W, C = x.shape
    if H % splits or W % splits:
        raise ValueError(f"A feature map of {H} x {W} cannot be cut into {splits} x {splits} windows; pad the images.")
    if shifted:
        dy, dx = _shift(H, W, splits)
        x = x.roll((-dy, -dx), dims=(1, 2))
    x = x.reshape(B, splits, H // splits, splits, W // splits, C).transpose(2, 3)
    return x.reshape(B, splits * splits, -1, C)


def from_windows(windows: torch.Tensor, height: int, width: int, splits: int, shifted: bool) -> torch.Tensor:
    """The inverse of `to_windows`: (B, height, width, C)."""
    B, _, _, C = windows.shape
    x = windows.reshape(B, splits, splits, height // splits, width // splits, C).transpose(2, 3)
    x = x.reshape(B, height, width, C)
    return x.roll(_shift(height, width, splits), dims=(1, 2)) if shifted else x


@functools.lru_cache(maxsize=8)
@torch.inference_mode(False)
def shift_mask(height: int, width: int, splits: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """(splits², N, N), N pixels a window, to add to the scores of shifted windows: 0 inside a region, else `FOREIGN`.

    The result is cached and shared: never write into it.
    """
    rows = _regions(height, height // splits, device)
    columns = _regions(width, width // splits, device)
    regions = (3 * rows[:, None] + columns)[None, :, :, None]
    regions = to_windows(regions, splits, shifted=False).squeeze(0).squeeze(-1)  # (splits², N)
    foreign = regions[:, :, None] != regions[:, None, :]
    return foreign.to(dtype) * FOREIGN


def _shift(height: int, width: int, splits: int) -> tuple[int, int]:
    return height // splits // 2, width // splits // 2


def _regions(length: int, window: int, device: torch.device) -> torch.Tensor:
    """(length,): which of three stretches, apart in the unshifted map, each place of the shifted one comes from."""
    place = torch.arange(length, device=device)
    return (place >= length - window).long() + (place >= length - window // 2).long()
