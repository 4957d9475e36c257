"""Dragged points, parts that stay and moves of the camera: what a user says of the motion in a video."""

from utils.tracks.tracks import Tracks, check_inside, dense_flow, known_flow, look_up, point_discs

__all__ = ["Tracks", "check_inside", "dense_flow", "known_flow", "look_up", "point_discs"]
