"""UniMatch for optical flow: the network, its published configurations, and flow for images of any size."""

from .configurations import CHECKPOINTS, CONFIGURATIONS, Configuration
from .unimatch import UniMatch

__all__ = ["CHECKPOINTS", "CONFIGURATIONS", "Configuration", "UniMatch"]
