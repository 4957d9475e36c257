"""Sampling: subclasses of diffusers pipelines that own their denoising loop."""
