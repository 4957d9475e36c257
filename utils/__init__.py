"""What all rooms share, and rooms of its own: data, diffusion, training, flow, tracks, scenes, metrics, judges."""

from utils.quiet import quiet_libraries

quiet_libraries()
