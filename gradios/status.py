"""The line below the buttons of a page: progress with a preview, what was made, or what did not work, as HTML."""

import html
from collections.abc import Sequence

from PIL import Image

from gradios.data_uri import data_uri
from gradios.running import Step

PREVIEW_SIDE = 256  # pixels of the longer side

IDLE = '<div class="duet-status" role="status"></div>'
WAITING = '<div class="duet-status" role="status"><span class="duet-pulse"></span>Waiting for the model…</div>'
STOPPED = '<div class="duet-status" role="status">Stopped. What was made before is still here.</div>'


def show_step(step: Step) -> str:
    """The progress of a sampling, and the last preview."""
    percent, phase = round(100 * step.done / step.total), html.escape(step.phase)
    shown = "" if step.preview is None else f'<img src="{small_copy(step.preview)}" alt="Preview of what is sampled">'
    return (
        f'<div class="duet-status">{shown}<div class="duet-bar"><div class="duet-bar-text">'
        f"<span>{phase}</span><span>step {step.done} of {step.total}</span></div>"
        f'<progress max="100" value="{percent}" aria-label="{phase}">{percent}%</progress></div></div>'
    )


def show_result(sentence: str, notes: Sequence[str] = ()) -> str:
    """That a sampling has ended, and what there is to know of it."""
    lines = "".join(f'<p class="duet-note">{html.escape(note)}</p>' for note in notes)
    return f'<div class="duet-status duet-done" role="status"><p>{html.escape(sentence)}</p>{lines}</div>'


def show_failure(sentence: str) -> str:
    """What did not work."""
    return f'<div class="duet-status duet-failed" role="alert"><p>{html.escape(sentence)}</p></div>'


def small_copy(image: Image.Image) -> str:
    """A small copy of an image for the page."""
    image = image.convert("RGB")
    scale = PREVIEW_SIDE / max(image.size)
    image = image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.NEAREST)
    return data_uri(image, "webp", quality=85)
