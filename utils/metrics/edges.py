"""Agreement of edge maps."""

import cv2
import numpy as np


def edge_f1(prediction: np.ndarray, target: np.ndarray, tolerance: int = 1) -> float:
    """F1 of two edge maps, bool (H, W): harmonic mean of the shares of edge pixels that have one of the other map near.

    Near means at most `tolerance` pixels away in both directions (a square of 2 * tolerance + 1). Two empty maps agree:
    1; if only one is empty: 0.
    """
    if prediction.shape != target.shape:
        raise ValueError(f"The edge maps to compare have the shapes {prediction.shape} and {target.shape}.")
    if not prediction.any() and not target.any():
        return 1.0
    precision, recall = _near(prediction, target, tolerance), _near(target, prediction, tolerance)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _near(edges: np.ndarray, others: np.ndarray, tolerance: int) -> float:
    """Share of the pixels of `edges` that lie near one of `others`."""
    reach = cv2.dilate(others.astype(np.uint8), np.ones((2 * tolerance + 1,) * 2, np.uint8)).astype(bool)
    return float((reach & edges).sum() / edges.sum()) if edges.any() else 0.0
