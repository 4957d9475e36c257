"""Similarity of images to true ones. Pixels (…, 3, H, W) in [-1, 1]."""

import torch

RANGE = 2.0  # from black, -1, to white, 1


def psnr(estimate: torch.Tensor, truth: torch.Tensor) -> float:
    """Peak signal-to-noise ratio, 10 log10(range² / mean squared error) dB, mean over images.

    Infinite for equal ones.
    """
    estimate, truth = _images(estimate, truth)
    error = (estimate - truth).square().flatten(1).mean(1)
    return (10 * (RANGE**2 / error).log10()).mean().item()


def ssim(estimate: torch.Tensor, truth: torch.Tensor) -> float:
    """Structural similarity (Wang et al., IEEE TIP 2004; by torchmetrics), Gaussian windows of σ = 1.5; 1 if equal.

    Its brightness term compares means with black at 0, so pixels are brought to [0, 1] first.

    Raises:
        ValueError: A side is shorter than the window's 11 pixels.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    estimate, truth = _images(estimate, truth)
    if min(estimate.shape[-2:]) < 11:
        raise ValueError(f"SSIM needs sides of at least 11 pixels, not {tuple(estimate.shape[-2:])}.")
    # In float32 the variances, differences of squares, would be off by a share of the constants that stabilise them.
    estimate, truth = (pixels.double().add(1).div(RANGE) for pixels in (estimate, truth))
    return structural_similarity_index_measure(estimate, truth, data_range=1.0).item()


def _images(estimate: torch.Tensor, truth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both as float32 (B, 3, H, W)."""
    if estimate.shape != truth.shape or estimate.ndim < 3:
        raise ValueError(f"Images have one shape (…, 3, H, W), not {tuple(estimate.shape)} and {tuple(truth.shape)}.")
    shape = (-1, *truth.shape[-3:])
    return estimate.float().reshape(shape), truth.float().reshape(shape)
