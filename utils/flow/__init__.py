"""Optical flow: (F - 1, 2, H, W) pixels, x then y, of a video (F, 3, H, W) in [-1, 1], from frame t to frame t + 1."""

from utils.flow.estimate import BACKENDS, both_flows_estimator, estimate_flow, flow_estimator
from utils.flow.files import read_flo, read_kitti, write_flo, write_kitti
from utils.flow.images import FlowEncoding, color_flow, draw_arrows
from utils.flow.sparse import spread_points, tracks_to_flow
from utils.flow.warp import accumulate, compose, find_occlusion, flip_flow, leaves_image, resize_flow, warp

__all__ = [
    "BACKENDS",
    "FlowEncoding",
    "accumulate",
    "both_flows_estimator",
    "color_flow",
    "compose",
    "draw_arrows",
    "estimate_flow",
    "find_occlusion",
    "flip_flow",
    "flow_estimator",
    "leaves_image",
    "read_flo",
    "read_kitti",
    "resize_flow",
    "spread_points",
    "tracks_to_flow",
    "warp",
    "write_flo",
    "write_kitti",
]
