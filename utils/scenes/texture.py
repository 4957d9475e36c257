"""A soft pattern on every surface, fixed to its material, so that the motion of plain surfaces is visible."""

import numpy as np

from utils.scenes.geometry import to_local
from utils.scenes.world import Scene

# Three waves in oblique directions, so that no face of a cube and no plane of the world is parallel to all crests.
WAVES = np.array([[3.1, 1.3, 2.2], [-1.9, 2.7, 1.1], [0.8, -2.1, 3.3]])
GROUND_SCALE = 0.75  # metres on floor and wall that stand for one radius of a solid


def pattern(scene: Scene, labels: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Brightness (N,) in [-1, 1] of the material at points (N, 3) of the world on the surfaces `labels` (N,)."""
    material = points / GROUND_SCALE
    for index, solid in enumerate(scene.objects):
        on_it = labels == index
        material[on_it] = to_local(solid, points[on_it]) + 7.0 * index
    return np.sin(material @ WAVES.T).mean(axis=1)
