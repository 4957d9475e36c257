"""Scenes in words."""

from utils.scenes.world import Scene, Solid


def caption(scene: Scene) -> str:
    """Objects from left to right, floor and wall: "a red cube and a small blue cone on a gray floor, white wall"."""
    names = [_name(solid) for solid in scene.objects]
    listed = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    return f"{listed} on a {scene.floor} floor, {scene.wall} wall"


def _name(solid: Solid) -> str:
    words = " ".join(filter(None, [solid.size, solid.color, solid.shape]))
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
