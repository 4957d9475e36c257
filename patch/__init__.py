"""Joint attention for pretrained diffusers models: one model samples two things that belong together.

import patch

patch.add_joint(unet, "depth", rank=64)              # or patch.load(unet, folder, name="depth")
patch.set_pairs(unet, [(0, 1, "depth")])             # sample 0 is the image, sample 1 its depth
noise = unet(latents, timesteps, text).sample        # timesteps: one noise level per sample
patch.remove_patch(unet)                             # the base again
"""

from patch.patch import *
from patch.patch import __all__ as __all__
