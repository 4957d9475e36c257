"""Noise levels of training."""

import torch


def min_snr_weight(scheduler, t: torch.Tensor, gamma: float) -> torch.Tensor:
    """Weights of the losses at timesteps t (B,) (Hang et al., arXiv 2303.09556).

    min(SNR, gamma) / SNR for the noise, min(SNR, gamma) / (SNR + 1) for v; 1 where gamma is 0.
    """
    if not gamma:
        return torch.ones_like(t, dtype=torch.float32)
    alpha = scheduler.alphas_cumprod.to(t.device)[t]
    snr = alpha / (1 - alpha)
    if scheduler.config.prediction_type == "v_prediction":
        return snr.clamp(max=gamma) / (snr + 1)
    return (gamma / snr).clamp(max=1)  # also where the last level has an SNR of 0
