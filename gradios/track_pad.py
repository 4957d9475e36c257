"""A component to drag paths on an image, and the text that it holds: that of a file of tracks."""

import json

import gradio as gr

from gradios.data_uri import data_uri
from gradios.frame import asset
from utils.images import read_image
from utils.tracks.files import KEYS, TrackFile

MAX_TEXT = 1_000_000  # characters
MAX_TRACKS, MAX_POINTS, MAX_REGIONS = 64, 512, 2048
SHOWN_SIDE = 768  # pixels of the longer side of the image that is drawn on
EMPTY = {"tracks": [], "static_points": [], "static_regions": []}


class TrackPad(gr.HTML):
    """Takes and returns the JSON text of a file of tracks; what it takes may have a background (`on_image`)."""

    def __init__(self, **options):
        super().__init__(
            "",
            html_template=asset("track_pad.html"),
            css_template=asset("track_pad.css"),
            js_on_load=asset("track_pad.js"),
            **options,
        )


def on_image(path: str, content: dict | None = None) -> str:
    """What the pad shows: an image, and tracks in its pixels."""
    image = read_image(path)
    width, height = image.size
    image.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    background = data_uri(image, "png" if max(image.size) <= 256 else "jpeg", quality=90)
    return json.dumps({**EMPTY, **(content or {}), "width": width, "height": height, "background": background})


def read_pad(text: str | None, preset: str = "", speed: float = 0.0) -> dict:
    """The content of a file of tracks by the text of the pad and a camera.

    Raises:
        ValueError: It is no such text, or holds more than a page takes.
    """
    if not isinstance(text, str | None):
        raise ValueError("The tracks are no text of JSON: see docs/trajectory.md for the file of tracks.")
    if len(text or "") > MAX_TEXT:
        raise ValueError(f"The tracks are a text of {len(text)} characters: send at most {MAX_TEXT}.")
    try:
        content = json.loads(text or "{}")
    except ValueError:
        raise ValueError("The tracks are no JSON: see docs/trajectory.md for the file of tracks.") from None
    if not isinstance(content, dict):
        raise ValueError("The tracks are no JSON object: see docs/trajectory.md for the file of tracks.")
    content = {key: value for key, value in content.items() if key in KEYS}
    if other := [key for key in EMPTY if not isinstance(content.get(key, []), list)]:
        raise ValueError(f"The {other[0]} are no list: see docs/trajectory.md for the file of tracks.")
    check_count("tracks", content.get("tracks"), MAX_TRACKS)
    check_count("static_points", content.get("static_points"), MAX_POINTS)
    check_count("static_regions", content.get("static_regions"), MAX_REGIONS)
    for track in content.get("tracks", []):
        check_count("points of a track", track, MAX_POINTS)
    if preset:
        content["camera"] = {"preset": preset, "speed": speed}
    return content


def check_count(name: str, items, most: int) -> None:
    """Raises ValueError for a list of too many; what is no list is left to the reader of the file."""
    if isinstance(items, list) and len(items) > most:
        raise ValueError(f"There are {len(items)} {name}: a page takes {most} at most.")


def to_text(content: dict) -> str:
    """The file that run_trajectory.py reads; lists that are empty are left out."""
    return json.dumps({key: value for key, value in content.items() if value != []})


def to_content(file: TrackFile) -> dict:
    """The content of a file that was read, in pixels of the image."""
    regions = [[left, top, right - 1, low - 1] for left, top, right, low in file.static_regions.tolist()]
    lists = {"tracks": [track.tolist() for track in file.tracks], "static_points": file.static_points.tolist()}
    return {**lists, "static_regions": regions}
