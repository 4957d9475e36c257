"""Frame rates that video files can hold. The writers and the commands that call them ask here."""

from pathlib import Path

# Slower ones become others in the fractions of an MP4, and faster ones are beyond what players take. A GIF counts
# hundredths
# of a second, and players show a frame for two of them at least.
FRAME_RATES = {".mp4": (0.01, 1000.0), ".gif": (0.01, 50.0)}


def check_fps(fps: float, path: str | Path) -> None:
    """Raises ValueError unless a file of this name can play so many frames per second."""
    suffix = Path(path).suffix.lower()
    if suffix not in FRAME_RATES:
        raise ValueError(f"{path}: videos are written as {' or '.join(FRAME_RATES)}.")
    low, high = FRAME_RATES[suffix]
    if not low <= fps <= high:
        raise ValueError(f"fps {fps:g} is no rate that {suffix} files hold: pass {low:g} to {high:g}.")
