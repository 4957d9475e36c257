"""UniMatch for optical flow: the network, its published configurations, and flow for images of any size."""

from .configurations import CHECKPOINTS, CONFIGURATIONS, Configuration
from .inference import estimate_both_flows, estimate_flow
from .loading import load_unimatch
from .occlusion import consistency_error, find_occlusion
from .unimatch import UniMatch

__all__ = [
    "CHECKPOINTS",
    "CONFIGURATIONS",
    "Configuration",
    "UniMatch",
    "consistency_error",
    "estimate_both_flows",
    "estimate_flow",
    "find_occlusion",
    "load_unimatch",
]
