"""Figures of images, depth, flow, tracks and videos against the truth, with confidence intervals."""
