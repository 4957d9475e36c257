"""Dragged points, static regions and camera moves: the motion that a user asks of a video."""

from utils.tracks.tracks import Tracks, check_inside, dense_flow, known_flow, look_up, point_discs

__all__ = ["Tracks", "check_inside", "dense_flow", "known_flow", "look_up", "point_discs"]
