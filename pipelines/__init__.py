"""Sampling: subclasses of diffusers pipelines that own their denoising loop."""

import utils as utils  # before diffusers: it drops notices of libraries
