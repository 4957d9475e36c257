"""Clips whose frames tell their number by their brightness, 20 per frame, and what packs them."""

import io
import tarfile

import numpy as np

H, W, F = 32, 48, 12


def numbered(count=F):
    return np.zeros((count, H, W, 3), np.uint8) + (np.arange(count, dtype=np.uint8) * 20)[:, None, None, None]


def numbers_of(pixels):
    """Numbers of the frames that pixels (F, 3, H, W) show."""
    return [round(value) for value in (pixels.mean((1, 2, 3)).add(1).mul(127.5) / 20).tolist()]


def add(tar, name, content):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))
