"""Intersections of rays and solids.

Rays are origins and directions (N, 3); a hit is a distance (N,), inf for a miss, and a normal (N, 3).

Solids are intersected in a frame of their own: base at the origin, radius 1, height 2. The distance is in units of the
direction's length, which an affine change of frame keeps.
"""

import numpy as np

from utils.scenes.world import Solid

EPSILON = 1e-4
BALL = 1.01 * 3**0.5  # radius, in the frame of a solid, of one around the cube, and so around all of them


def intersect(solid: Solid, origins: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest hit in front of the origins, and the outward normal there (zero for a miss)."""
    turn = _yaw(solid.yaw)
    local_origins = to_local(solid, origins)
    local_directions = directions @ turn / solid.radius
    near = _meets_ball(local_origins, local_directions)
    distance, normal = np.full(len(near), np.inf), np.zeros((len(near), 3))
    with np.errstate(divide="ignore", invalid="ignore"):
        distance[near], local_normal = HITS[solid.shape](local_origins[near], local_directions[near])
    normal[near] = np.where(np.isfinite(distance[near])[:, None], local_normal, 0.0) @ turn.T
    return distance, normal


def to_local(solid: Solid, points: np.ndarray) -> np.ndarray:
    """Points (N, 3) of the world in the frame of a solid, where its material rests."""
    return (points - (solid.x, 0.0, solid.z)) @ _yaw(solid.yaw) / solid.radius


def to_world(solid: Solid, points: np.ndarray) -> np.ndarray:
    """The inverse of `to_local`."""
    return points @ _yaw(solid.yaw).T * solid.radius + (solid.x, 0.0, solid.z)


def meet_plane(normal, height: float, origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Distances (N,) to the plane normal . p = height."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return _ahead((height - origins @ normal) / (directions @ normal))


def _meets_ball(o, d):
    """Which rays meet the ball around every solid: most do not, and the test is cheap."""
    o = o - (0.0, 1.0, 0.0)
    along, length = _dot(o, d), _dot(d, d)
    outside = _dot(o, o) - BALL**2
    return (along**2 >= outside * length) & ((along < 0) | (outside < 0))


def _sphere(o, d):
    o = o - (0.0, 1.0, 0.0)
    distance = np.minimum(*_roots(_dot(d, d), _dot(o, d), _dot(o, o) - 1))
    return distance, o + d * _finite(distance)


def _cube(o, d):
    o = o - (0.0, 1.0, 0.0)
    first, second = (-1 - o) / d, (1 - o) / d
    enter, leave = np.minimum(first, second), np.maximum(first, second)
    near = enter.max(axis=1)
    distance = np.where(near <= leave.min(axis=1), _ahead(near), np.inf)
    axis = enter.argmax(axis=1)[:, None] == np.arange(3)
    return distance, np.where(axis, -np.sign(d), 0.0)


def _cylinder(o, d):
    flat_o, flat_d = o[:, ::2], d[:, ::2]
    sides = [
        _within(t, o[:, 1] + d[:, 1] * t, 0, 2)
        for t in _roots(_dot(flat_d, flat_d), _dot(flat_o, flat_d), _dot(flat_o, flat_o) - 1)
    ]
    side = np.minimum(*sides)
    point = o + d * _finite(side)
    return _nearest([(side, point * (1, 0, 1)), _disc(o, d, 2.0, 1.0), _disc(o, d, 0.0, -1.0)])


def _cone(o, d):
    """Apex at height 2: x^2 + z^2 = (1 - y / 2)^2."""
    rise_o, rise_d = 1 - o[:, 1] / 2, -d[:, 1] / 2
    flat_o, flat_d = o[:, ::2], d[:, ::2]
    roots = _roots(
        _dot(flat_d, flat_d) - rise_d**2,
        _dot(flat_o, flat_d) - rise_o * rise_d,
        _dot(flat_o, flat_o) - rise_o**2,
    )
    side = np.minimum(*(_within(t, o[:, 1] + d[:, 1] * t, 0, 2) for t in roots))
    point = o + d * _finite(side)
    slope = np.stack([point[:, 0], (1 - point[:, 1] / 2) / 2, point[:, 2]], axis=1)
    slope /= np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), EPSILON)
    return _nearest([(side, slope), _disc(o, d, 0.0, -1.0)])


HITS = {"sphere": _sphere, "cube": _cube, "cylinder": _cylinder, "cone": _cone}


def _disc(o, d, height: float, up: float):
    distance = _ahead((height - o[:, 1]) / d[:, 1])
    flat = (o + d * _finite(distance))[:, ::2]
    return np.where(_dot(flat, flat) <= 1, distance, np.inf), np.broadcast_to((0.0, up, 0.0), o.shape)


def _nearest(hits):
    distance, normal = hits[0]
    for other, other_normal in hits[1:]:
        closer = other < distance
        distance = np.where(closer, other, distance)
        normal = np.where(closer[:, None], other_normal, normal)
    return distance, normal


def _roots(a, half_b, c):
    """Both solutions of a t^2 + 2 half_b t + c = 0 that lie ahead, inf for the others."""
    root = np.sqrt(half_b**2 - a * c)
    return _ahead((-half_b - root) / a), _ahead((-half_b + root) / a)


def _within(distance, height, low, high):
    return np.where((height >= low) & (height <= high), distance, np.inf)


def _ahead(distance):
    return np.where(distance > EPSILON, distance, np.inf)


def _finite(distance):
    return np.where(np.isfinite(distance), distance, 0.0)[:, None]


def _dot(a, b):
    return sum((a * b).T)  # the same as the sum over axis 1, which is slow for so few columns


def _yaw(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0.0, -s], [0.0, 1.0, 0.0], [s, 0.0, c]])
