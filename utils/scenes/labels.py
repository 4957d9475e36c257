"""Labels of a rendering as an image: a colour for each thing, the same in all scenes."""

import numpy as np

from utils.scenes.render import FLOOR, WALL

LABEL_COLORS = {WALL: (255, 255, 255), FLOOR: (0, 0, 0), 0: (255, 0, 0), 1: (0, 255, 0), 2: (0, 0, 255)}


def color_labels(labels: np.ndarray) -> np.ndarray:
    """uint8 (…, 3) of labels (…): wall white, floor black, solids red, green and blue from left to right in frame 0."""
    image = np.zeros((*labels.shape, 3), np.uint8)
    for label, color in LABEL_COLORS.items():
        image[labels == label] = color
    return image
