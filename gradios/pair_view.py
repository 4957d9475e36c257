"""A component that shows an image with its depth in three dimensions, to be turned."""

import json

import cv2
import gradio as gr
import numpy as np
from PIL import Image

from gradios.data_uri import data_uri
from gradios.frame import asset

MESH_SIDE = 160  # vertices of the longer side: all of them in 16 bits


class PairView(gr.HTML):
    """Takes and returns the JSON text of `encode_pair`, or an empty one."""

    def __init__(self, **options):
        super().__init__(
            "",
            html_template=asset("pair_view.html"),
            css_template=asset("pair_view.css"),
            js_on_load=asset("pair_view.js"),
            **options,
        )


def encode_pair(image: Image.Image, disparity: np.ndarray) -> str:
    """What `PairView` takes.

    Args:
        disparity: (H, W) in [-1, 1], nearest 1.
    """
    H, W = disparity.shape
    scale = min(1.0, MESH_SIDE / max(H, W))
    size = max(2, round(W * scale)), max(2, round(H * scale))
    small = cv2.resize(disparity.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    values = np.rint((np.clip(small, -1, 1) + 1) / 2 * 65535).astype(np.uint16)
    depth = Image.fromarray(np.stack([values >> 8, values & 255, values * 0], axis=-1).astype(np.uint8))
    return json.dumps({"image": data_uri(image.convert("RGB")), "depth": data_uri(depth)})
